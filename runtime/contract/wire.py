"""The wire format of protobuf (protobuf.dev/programming-guides/encoding), read by seeking over what is not wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["BYTES", "VARINT", "Field", "PastEnd", "Wire", "WireError"]

VARINT, _FIXED64, BYTES, _FIXED32 = 0, 1, 2, 5

#: No name or metadata value that is worth reading is longer than this.
_MAX_TEXT = 64 * 2**20


class WireError(Exception):
    """The bytes are not what protobuf's wire format allows."""


class PastEnd(WireError):
    """A field goes on after the end of its message: the sign of a truncated file."""


@dataclass(frozen=True)
class Field:
    """number and wire type; value of a varint, or where the content starts and ends."""

    number: int
    kind: int
    value: int
    end: int = 0


class Wire:
    """Steps through protobuf messages in a file; content is read only when it is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file

    def fields(self, start: int, end: int) -> Iterator[Field]:
        position = start
        while position < end:
            tag, position = self._varint(position, end)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise WireError(f"field number 0 at byte {position}")
            if kind == VARINT:
                value, position = self._varint(position, end)
                yield Field(number, kind, value)
                continue
            if kind == BYTES:
                length, position = self._varint(position, end)
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise WireError(f"wire type {kind} at byte {position}")
            if position + length > end:
                raise PastEnd(f"a field of {length} bytes starts at byte {position}, {end - position} are there")
            yield Field(number, kind, position, position + length)
            position += length

    def text(self, item: Field) -> str:
        if item.kind != BYTES or item.end - item.value > _MAX_TEXT:
            raise WireError(f"no text of a sensible length at byte {item.value}")
        self._file.seek(item.value)
        data = self._file.read(item.end - item.value)
        if len(data) != item.end - item.value:
            raise PastEnd("the file became shorter while it was read")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise WireError(f"text that is not UTF-8 at byte {item.value}") from error

    def children(self, item: Field) -> Iterator[Field]:
        if item.kind != BYTES:
            raise WireError(f"field {item.number} is not a message")
        return self.fields(item.value, item.end)

    def numbered(self, item: Field, number: int) -> Iterator[Field]:
        """Those children of the message `item` that have `number`."""
        return (child for child in self.children(item) if child.number == number)

    def string(self, item: Field, number: int) -> str:
        """The text of the message's last child with `number`; "" where there is none."""
        return next((self.text(child) for child in reversed([*self.numbered(item, number)])), "")

    def integer(self, item: Field, number: int) -> int:
        """The value of the message's last child with `number`; 0 where there is none."""
        return next((one.value for one in reversed([*self.numbered(item, number)]) if one.kind == VARINT), 0)

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        self._file.seek(position)
        data = self._file.read(min(10, end - position))
        value = 0
        for i, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value, position + i + 1
        if len(data) == 10:
            raise WireError(f"number of more than 10 bytes at byte {position}")
        raise PastEnd(f"the file ends inside a number at byte {position}")
