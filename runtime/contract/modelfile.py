"""What an ``.onnx`` file says about itself, read without onnx and without its weights.

An ONNX file is one protobuf message. The reader below walks its fields and seeks over
everything large, so it takes milliseconds and a few kilobytes for a file of any size.
Field numbers are those of ``onnx.proto`` (onnx.ai/onnx/repo-docs/IR.html); the wire format is
protobuf's (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..errors import ModelFileError, SpecError
from .spec import METADATA_KEY, CamSpec

__all__ = ["ModelInfo", "ValueInfo", "file_sha256", "is_plan", "read_model_info", "read_spec"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: No name or metadata value that is worth reading is longer than this.
_MAX_TEXT = 64 * 2**20

_ELEMENTS = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


@dataclass(frozen=True)
class ValueInfo:
    """A graph input or output.

    dtype: numpy's name of the element type. shape: per axis a size, a symbol such as
    ``"N"``, or None where the file says nothing; None as a whole when there is no shape.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class ModelInfo:
    """The head of an ONNX file.

    Attributes:
        path: Where it is.
        bytes: Size of the file itself, without external data.
        ir_version: Version of ONNX's file format.
        opset: Version of the default operator set.
        producer: Name and version of the tool that wrote it.
        inputs: Inputs of the graph, without weights that are listed as inputs.
        outputs: Outputs of the graph.
        opsets: Versions of all operator sets by domain.
        metadata: The metadata by key.
    """

    path: Path
    bytes: int
    ir_version: int
    opset: int
    producer: str
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def read_spec(path: str | os.PathLike[str]) -> CamSpec:
    """The `CamSpec` in a file, checked against the inputs and outputs of its graph.

    Args:
        path: The ONNX file.

    Returns:
        What the file says about itself.

    Raises:
        ModelFileError: The file cannot be read, is not ONNX, was not made by ``cfcam export``, or was changed since.
        SpecError: Its `CamSpec` does not validate.
    """
    info = read_model_info(path)
    text = info.metadata.get(METADATA_KEY)
    if text is None:
        stem = info.path.name.removesuffix(".onnx")
        raise ModelFileError(
            f"{info.path} was not made by `cfcam export` (no '{METADATA_KEY}' in its metadata): export the model "
            f"with `cfcam export ... -o {stem}.cam.onnx` and use that file"
        )
    try:
        spec = CamSpec.from_json(text)
    except SpecError as error:
        raise SpecError(f"{info.path}: {error}") from error
    wanted = {"input": [spec.input.name, spec.target], "output": [spec.output.name, spec.chosen]}
    for layer in spec.layers:
        wanted["output"] += [layer.activations, layer.gradients]
    present = {"input": [v.name for v in info.inputs], "output": [v.name for v in info.outputs]}
    for kind, names in wanted.items():
        for name in names:
            if name not in present[kind]:
                raise ModelFileError(
                    f"{info.path}: its CamSpec names the {kind} '{name}', but the graph's {kind}s are "
                    f"{', '.join(present[kind])}: another tool has changed the file, export it again"
                )
    return spec


def read_model_info(path: str | os.PathLike[str]) -> ModelInfo:
    """Versions, inputs, outputs and metadata of any ONNX file, without reading its weights.

    Args:
        path: The ONNX file.

    Returns:
        The head of the file.

    Raises:
        ModelFileError: The file is missing, a folder, unreadable, empty, truncated, or not an ONNX model.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ModelFileError(f"{path}: is a folder, an .onnx file was expected")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ModelFileError(f"{path}: is empty (0 bytes), an .onnx file was expected")
            if is_plan(path):
                raise ModelFileError(f"{path}: is an engine of TensorRT, an ONNX file was expected")
            return _read_model(path, _Wire(file, size))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def is_plan(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a serialised TensorRT engine, by its first bytes: "ftrt" or "vtrt".

    Args:
        path: Any file.

    Returns:
        False also where the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(4)[1:] == b"trt"
    except OSError:
        return False


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes.

    Args:
        path: Any file.

    Returns:
        64 hexadecimal digits.

    Raises:
        ModelFileError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise ModelFileError(f"{os.fspath(path)}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


class _WireError(Exception):
    """The bytes are not what protobuf's wire format allows."""


class _PastEnd(_WireError):
    """A field goes on after the end of its message: the sign of a truncated file."""


@dataclass(frozen=True)
class _Field:
    """number and wire type; value of a varint, or where the content starts and ends."""

    number: int
    kind: int
    value: int
    end: int = 0


class _Wire:
    """Steps through protobuf messages in a file; content is read only when it is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        position = start
        while position < end:
            tag, position = self._varint(position, end)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise _WireError(f"field number 0 at byte {position}")
            if kind == _VARINT:
                value, position = self._varint(position, end)
                yield _Field(number, kind, value)
                continue
            if kind == _BYTES:
                length, position = self._varint(position, end)
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise _WireError(f"wire type {kind} at byte {position}")
            if position + length > end:
                raise _PastEnd(f"a field of {length} bytes starts at byte {position}, {end - position} are there")
            yield _Field(number, kind, position, position + length)
            position += length

    def text(self, item: _Field) -> str:
        if item.kind != _BYTES or item.end - item.value > _MAX_TEXT:
            raise _WireError(f"no text of a sensible length at byte {item.value}")
        self._file.seek(item.value)
        data = self._file.read(item.end - item.value)
        if len(data) != item.end - item.value:
            raise _PastEnd("the file became shorter while it was read")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise _WireError(f"text that is not UTF-8 at byte {item.value}") from error

    def children(self, item: _Field) -> Iterator[_Field]:
        if item.kind != _BYTES:
            raise _WireError(f"field {item.number} is not a message")
        return self.fields(item.value, item.end)

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        self._file.seek(position)
        data = self._file.read(min(10, end - position))
        value = 0
        for i, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value, position + i + 1
        if len(data) == 10:
            raise _WireError(f"number of more than 10 bytes at byte {position}")
        raise _PastEnd(f"the file ends inside a number at byte {position}")


def _read_model(path: Path, wire: _Wire) -> ModelInfo:
    ir_version, producer, producer_version = 0, "", ""
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    graph: tuple[tuple[ValueInfo, ...], tuple[ValueInfo, ...]] | None = None
    try:
        for item in wire.fields(0, wire.size):
            if item.number == 1 and item.kind == _VARINT:
                ir_version = item.value
            elif item.number == 2:
                producer = wire.text(item)
            elif item.number == 3:
                producer_version = wire.text(item)
            elif item.number == 7:
                graph = _read_graph(wire, item)
            elif item.number == 8:
                domain, version = _read_opset(wire, item)
                opsets[domain] = version
            elif item.number == 14:
                key, value = _read_pair(wire, item)
                metadata[key] = value
    except _PastEnd as error:
        if ir_version:
            raise ModelFileError(
                f"{path}: is truncated or damaged ({error}; the file has {wire.size} bytes): copy it or export it again"
            ) from error
        raise ModelFileError(f"{path}: is not an ONNX model ({error})") from error
    except _WireError as error:
        raise ModelFileError(f"{path}: is not an ONNX model, or is damaged ({error})") from error
    if graph is None or not ir_version:
        raise ModelFileError(f"{path}: is not an ONNX model, or is truncated (it has no graph or no IR version)")
    return ModelInfo(
        path=path,
        bytes=wire.size,
        ir_version=ir_version,
        opset=opsets.get("", opsets.get("ai.onnx", 0)),
        producer=f"{producer} {producer_version}".strip(),
        inputs=graph[0],
        outputs=graph[1],
        opsets=opsets,
        metadata=metadata,
    )


def _read_graph(wire: _Wire, graph: _Field) -> tuple[tuple[ValueInfo, ...], tuple[ValueInfo, ...]]:
    inputs: list[ValueInfo] = []
    outputs: list[ValueInfo] = []
    weights: set[str] = set()
    for item in wire.children(graph):
        if item.number == 5:
            weights.update(wire.text(part) for part in wire.children(item) if part.number == 8)
        elif item.number == 11:
            inputs.append(_read_value(wire, item))
        elif item.number == 12:
            outputs.append(_read_value(wire, item))
    return tuple(v for v in inputs if v.name not in weights), tuple(outputs)


def _read_value(wire: _Wire, value: _Field) -> ValueInfo:
    name, dtype = "", "unknown"
    shape: tuple[int | str | None, ...] | None = None
    for item in wire.children(value):
        if item.number == 1:
            name = wire.text(item)
        elif item.number == 2:
            for kind in wire.children(item):
                if kind.number != 1:  # sequences, maps and the like: not tensors
                    continue
                for part in wire.children(kind):
                    if part.number == 1 and part.kind == _VARINT:
                        dtype = _ELEMENTS.get(part.value, f"type {part.value}")
                    elif part.number == 2:
                        shape = tuple(_read_axis(wire, axis) for axis in wire.children(part) if axis.number == 1)
    return ValueInfo(name, dtype, shape)


def _read_axis(wire: _Wire, axis: _Field) -> int | str | None:
    for item in wire.children(axis):
        if item.number == 1 and item.kind == _VARINT:
            return item.value
        if item.number == 2:
            return wire.text(item)
    return None


def _read_opset(wire: _Wire, opset: _Field) -> tuple[str, int]:
    domain, version = "", 0
    for item in wire.children(opset):
        if item.number == 1:
            domain = wire.text(item)
        elif item.number == 2 and item.kind == _VARINT:
            version = item.value
    return domain, version


def _read_pair(wire: _Wire, pair: _Field) -> tuple[str, str]:
    key = value = ""
    for item in wire.children(pair):
        if item.number == 1:
            key = wire.text(item)
        elif item.number == 2:
            value = wire.text(item)
    return key, value
