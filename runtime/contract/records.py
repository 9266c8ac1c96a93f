"""Frozen dataclasses as JSON and back, for documents that outlive the version that wrote them.

A `Format` loads a dataclass out of plain JSON values, with an error that names the offending key.
Keys that this version does not know are kept, and written back by `dump`.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from ..errors import CfcamError
from ..shown import shown_value

__all__ = ["Format", "dump"]

# Sections keep the keys they do not know in this attribute, so that a file that a newer
# minor version wrote survives being read and written by this one.
_UNKNOWN = "_unknown_keys"

_LARGEST_FLOAT = sys.float_info.max
_TOO_LARGE = 2**63


@dataclass(frozen=True)
class Format:
    """What a document is called in messages, and the error that they are raised as.

    schema: ``MAJOR.MINOR`` that this version writes. remedy: what to do about a newer major.
    """

    name: str
    error: type[CfcamError]
    schema: str = "1.0"
    remedy: str = "upgrade cfcam"

    def check_schema(self, schema: Any) -> None:
        """A newer major is refused, a newer minor is not."""
        if not isinstance(schema, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", schema):
            raise self.error(f"{self.name} schema: expected 'MAJOR.MINOR', got {shown_value(schema)}")
        major = schema.split(".")[0]
        if int(major) > int(self.schema.split(".")[0]):
            raise self.error(
                f"{self.name} schema {schema} is newer than this cfcam reads ({self.schema}): {self.remedy}"
            )

    def load(self, cls: Any, data: Any, where: str = "") -> Any:
        """An object of the dataclass `cls`. where: the key of `data` in the document, for messages."""
        if not isinstance(data, dict):
            raise self.error(f"{self.name} {where}: expected an object, got {type(data).__name__}")
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for f in fields(cls):
            path = f"{where}.{f.name}".lstrip(".")
            if f.name in data:
                values[f.name] = self._convert(data[f.name], hints[f.name], path)
            elif f.default is MISSING and f.default_factory is MISSING:
                raise self.error(f"{self.name} {path}: missing")
        loaded = cls(**values)
        unknown = {k: v for k, v in data.items() if k not in hints}
        if unknown:
            object.__setattr__(loaded, _UNKNOWN, unknown)
        return loaded

    def check_types(self, record: Any, where: str = "") -> None:
        """Refuse a dataclass that was made by hand with values of other types than it says."""
        hints = typing.get_type_hints(type(record))
        for f in fields(record):
            self._convert(getattr(record, f.name), hints[f.name], f"{where}.{f.name}".lstrip("."))

    def _convert(self, value: Any, hint: Any, path: str) -> Any:
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):  # only X | None is used
            return None if value is None else self._convert(value, args[0], path)
        if origin is Literal:
            if not isinstance(value, str) or value not in args:
                raise self.error(
                    f"{self.name} {path}: expected one of {', '.join(map(repr, args))}, got {shown_value(value)}"
                )
            return value
        if origin is tuple:
            if not isinstance(value, list | tuple):
                raise self.error(f"{self.name} {path}: expected a list, got {shown_value(value)}")
            if args[-1] is not Ellipsis and len(args) != len(value):
                raise self.error(f"{self.name} {path}: expected {len(args)} items, got {len(value)}")
            return tuple(self._convert(v, args[0], f"{path}[{i}]") for i, v in enumerate(value))
        if origin is dict:
            if not isinstance(value, dict):
                raise self.error(f"{self.name} {path}: expected an object, got {shown_value(value)}")
            if args and args[1] is str and not all(isinstance(text, str) for text in value.values()):
                raise self.error(f"{self.name} {path}: expected an object of text, got {shown_value(value)}")
            return dict(value)
        if hasattr(hint, "__dataclass_fields__"):
            if isinstance(value, hint):
                self.check_types(value, path)
                return value
            return self.load(hint, value, path)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if hint is float and is_number:
            if not abs(value) <= _LARGEST_FLOAT:  # NaN is not either
                raise self.error(f"{self.name} {path}: expected a finite number, got {shown_value(value)}")
            return float(value)
        if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
            raise self.error(f"{self.name} {path}: expected {hint.__name__}, got {shown_value(value)}")
        if hint is int and abs(value) >= _TOO_LARGE:
            raise self.error(f"{self.name} {path}: expected a number below 2 ** 63, got {shown_value(value)}")
        return value


def dump(value: Any) -> Any:
    """A dataclass, or what holds some, as plain JSON values."""
    if hasattr(value, "__dataclass_fields__"):
        known = {f.name: dump(getattr(value, f.name)) for f in fields(value)}
        return {**getattr(value, _UNKNOWN, {}), **known}
    if isinstance(value, tuple | list):
        return [dump(v) for v in value]
    if isinstance(value, dict):
        return {k: dump(v) for k, v in value.items()}
    return value
