"""What an ``.onnx`` file says about itself, read without onnx and without its weights.

An ONNX file is one protobuf message. The reader below walks its fields and seeks over
everything large, so it takes milliseconds and a few kilobytes for a file of any size.
Field numbers are those of ``onnx.proto`` (onnx.ai/onnx/repo-docs/IR.html); the wire format is
protobuf's (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..checks import check_path
from ..errors import CfcamError, ModelFileError, SpecError
from .spec import METADATA_KEY, CamSpec
from .wire import VARINT, Field, PastEnd, Wire, WireError

__all__ = ["ModelInfo", "ValueInfo", "file_sha256", "has_float16_scales", "is_plan", "read_model_info", "read_spec"]

_FLOAT16 = 10
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")
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
    wanted = {"input": [*spec.inputs], "output": [spec.output.name, *spec.added_outputs]}
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
    path = check_path("read_model_info", path, ModelFileError)
    try:
        if path.is_dir():
            raise ModelFileError(f"{path}: is a folder, an .onnx file was expected")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ModelFileError(f"{path}: is empty (0 bytes), an .onnx file was expected")
            if is_plan(path):
                raise ModelFileError(f"{path}: is a TensorRT engine, an ONNX file was expected")
            return _read_model(path, Wire(file, size))
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


def has_float16_scales(path: str | os.PathLike[str]) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear of the file takes its scale as float16.

    Scales are initializers in practice; a Constant and a Cast to float16 count too.

    Args:
        path: Any ONNX file, whoever wrote it.

    Returns:
        False also for what cannot be read as ONNX: whoever opens the file then says so.
    """
    scales: set[str] = set()
    halves: set[str] = set()
    try:
        with Path(path).open("rb") as file:
            wire = Wire(file, os.fstat(file.fileno()).st_size)
            for item in (
                part for graph in wire.fields(0, wire.size) if graph.number == 7 for part in wire.children(graph)
            ):
                if item.number == 1:
                    _read_node(wire, item, scales, halves)
                elif item.number == 5 and wire.integer(item, 2) == _FLOAT16:
                    halves.add(wire.string(item, 8))
    except (OSError, WireError):
        return False
    return not scales.isdisjoint(halves)


def file_sha256(path: str | os.PathLike[str], error: type[CfcamError] = ModelFileError) -> str:
    """SHA-256 of a file's bytes.

    Args:
        path: Any file.
        error: What is raised when it cannot be read.

    Returns:
        64 hexadecimal digits.

    Raises:
        ModelFileError: The file cannot be read, unless `error` is another one.
    """
    check_path("file_sha256", path, error)
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError as cause:
        raise error(f"{os.fspath(path)}: cannot be read ({cause.strerror or cause})") from cause
    return digest.hexdigest()


def _read_model(path: Path, wire: Wire) -> ModelInfo:
    ir_version, producer, producer_version = 0, "", ""
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    graph: tuple[tuple[ValueInfo, ...], tuple[ValueInfo, ...]] | None = None
    try:
        for item in wire.fields(0, wire.size):
            if item.number == 1 and item.kind == VARINT:
                ir_version = item.value
            elif item.number == 2:
                producer = wire.text(item)
            elif item.number == 3:
                producer_version = wire.text(item)
            elif item.number == 7:
                graph = _read_graph(wire, item)
            elif item.number == 8:
                opsets[wire.string(item, 1)] = wire.integer(item, 2)
            elif item.number == 14:
                metadata[wire.string(item, 1)] = wire.string(item, 2)
    except PastEnd as error:
        if ir_version:
            raise ModelFileError(
                f"{path}: is truncated or damaged ({error}; the file has {wire.size} bytes): copy it or export it again"
            ) from error
        raise ModelFileError(f"{path}: is not an ONNX model ({error})") from error
    except WireError as error:
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


def _read_graph(wire: Wire, graph: Field) -> tuple[tuple[ValueInfo, ...], tuple[ValueInfo, ...]]:
    inputs: list[ValueInfo] = []
    outputs: list[ValueInfo] = []
    weights: set[str] = set()
    for item in wire.children(graph):
        if item.number == 5:
            weights.add(wire.string(item, 8))
        elif item.number == 11:
            inputs.append(_read_value(wire, item))
        elif item.number == 12:
            outputs.append(_read_value(wire, item))
    return tuple(v for v in inputs if v.name not in weights), tuple(outputs)


def _read_value(wire: Wire, value: Field) -> ValueInfo:
    dtype, shape = "unknown", None
    # Sequences, maps and the like are no tensors, which have the number 1.
    for tensor in (kind for item in wire.numbered(value, 2) for kind in wire.numbered(item, 1)):
        element = wire.integer(tensor, 1)
        dtype = _ELEMENTS.get(element, f"type {element}")
        for part in wire.numbered(tensor, 2):
            shape = tuple(_read_axis(wire, axis) for axis in wire.numbered(part, 1))
    return ValueInfo(wire.string(value, 1), dtype, shape)


def _read_axis(wire: Wire, axis: Field) -> int | str | None:
    for item in wire.children(axis):
        if item.number == 1 and item.kind == VARINT:
            return item.value
        if item.number == 2:
            return wire.text(item)
    return None


def _read_node(wire: Wire, node: Field, scales: set[str], halves: set[str]) -> None:
    """Add the node's scale to `scales`, and what it makes in float16 to `halves`."""
    kind = wire.string(node, 4)
    if kind in _QUANTISING:
        scales.update(wire.text(part) for part in list(wire.numbered(node, 1))[1:2])
    elif kind == "Cast" and any(wire.integer(one, 3) == _FLOAT16 for one in wire.numbered(node, 5)):
        halves.add(wire.string(node, 2))
    elif kind == "Constant":
        tensors = (tensor for one in wire.numbered(node, 5) for tensor in wire.numbered(one, 5))
        halves.update(wire.string(node, 2) for tensor in tensors if wire.integer(tensor, 2) == _FLOAT16)
