"""Writing exported files: the contract in their metadata, all of them or none."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from ..runtime.contract.spec import METADATA_KEY, CamSpec
from ..runtime.errors import OutputError
from ..runtime.files import atomic_path, scratch_folder
from .graph.loading import INLINE_LIMIT, model_shell, save_model, tensor_bytes

__all__ = ["set_spec", "spec_of", "staging_folder", "state_dict_sha256", "tool_versions", "write_model"]


def set_spec(model: onnx.ModelProto, spec: CamSpec) -> None:
    """Put `spec` into the model's metadata, in place of any that is there."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    model.producer_name, model.producer_version = "cfcam", importlib.metadata.version("cfcam")


def spec_of(model: onnx.ModelProto) -> CamSpec | None:
    """The contract in the model's metadata; None in a plain model. Raises `SpecError` for one that cannot be read."""
    text = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    return None if text is None else CamSpec.from_json(text)


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


@contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder beside `output`; when the block succeeds, move its files to where `output` is.

    The file that has the name of `output` is moved last, so that what it refers to is there before it is.
    The folder is removed in any case. Raises `OutputError`.
    """
    folder: Path | None = None
    try:
        if output.is_dir():
            raise OutputError(f"{output}: is a folder, a file name was expected")
        output.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(output.parent, output.name) as folder:
            yield folder
            for file in sorted(folder.iterdir(), key=lambda file: file.name == output.name):
                os.replace(file, output.with_name(file.name))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror or error})") from error
    except OutputError as error:
        if folder is None:
            raise
        raise OutputError(str(error).replace(str(folder), str(output.parent))) from error


def state_dict_sha256(state: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes and bytes of `state` (name -> tensor), in sorted order.

    Each entry contributes ``name``, a zero byte, the shape as ``[2, 3]``, a zero byte, the
    dtype, a zero byte, and the values in row-major order, little-endian.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        if not isinstance(tensor, torch.Tensor):  # extra state of some modules
            continue
        tensor = tensor.detach().cpu().contiguous()
        for part in (name, str(list(tensor.shape)), str(tensor.dtype).removeprefix("torch.")):
            digest.update(part.encode() + b"\0")
        # Through a view of bytes, so that bfloat16, which numpy lacks, counts as well.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
