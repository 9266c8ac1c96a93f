"""Writing the contract into the file."""

from __future__ import annotations

import importlib.metadata
import os

import onnx

from ..runtime.contract.spec import METADATA_KEY, CamSpec
from ..runtime.files import atomic_path
from .graph.loading import INLINE_LIMIT, model_shell, save_model, tensor_bytes

__all__ = ["set_spec", "tool_versions", "write_model"]


def set_spec(model: onnx.ModelProto, spec: CamSpec) -> None:
    """Put `spec` into the model's metadata, in place of any that is there."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    model.producer_name, model.producer_version = "cfcam", importlib.metadata.version("cfcam")


def tool_versions(*packages: str) -> dict[str, str]:
    """Versions of cfcam and of those of `packages` that are installed."""
    found = {}
    for package in ("cfcam", *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write `model` atomically, weight by weight, so that it is in memory once; above 2 GB as `save_model` does.

    Raises `OutputError`.
    """
    weights = list(model.graph.initializer)
    if sum(tensor_bytes(tensor) for tensor in weights) >= INLINE_LIMIT:
        save_model(model, path)
        return
    # Protobuf's wire format: a message is a sequence of fields, each with its number, its kind
    # (2: bytes of a stated length) and its contents, in any order.
    shell = model_shell(model)
    graph = shell.graph.SerializeToString()
    shell.ClearField("graph")
    sizes = [tensor.ByteSize() for tensor in weights]
    length = len(graph) + sum(1 + len(_varint(size)) + size for size in sizes)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(shell.SerializeToString())
        stream.write(bytes([_GRAPH << 3 | 2]) + _varint(length) + graph)
        for tensor, size in zip(weights, sizes, strict=True):
            stream.write(bytes([_INITIALIZER << 3 | 2]) + _varint(size))
            stream.write(tensor.SerializeToString())


#: Field numbers in onnx.proto: ModelProto.graph, GraphProto.initializer.
_GRAPH, _INITIALIZER = 7, 5


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
