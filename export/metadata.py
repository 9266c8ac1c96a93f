"""Writing the contract into the file."""

from __future__ import annotations

import importlib.metadata
import os

import onnx

from ..runtime.files import atomic_path
from ..runtime.spec import METADATA_KEY, CamSpec

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
    """Serialise atomically. Raises `OutputError`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
