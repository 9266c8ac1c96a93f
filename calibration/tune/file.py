"""Writing found settings, and where they come from, into a copy of an exported file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from ...export.graph.loading import load_model
from ...export.writing import set_spec, tool_versions, write_model
from ...runtime.contract.modelfile import file_sha256, read_spec
from ...runtime.errors import OutputError
from .search import Tuned

__all__ = ["PROVENANCE", "refuse_overwriting", "write_tuned"]

#: The section of the contract that says how the settings were found, and its name before.
PROVENANCE, _OLDER = "tuned", "calibration"


def refuse_overwriting(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Raise `OutputError` when `output` is the file at `path`."""
    source, target = Path(path), Path(output)
    if target.exists() and source.exists() and source.samefile(target):
        raise OutputError(f"{target}: is the file that is read; write to another name")


def write_tuned(
    path: str | os.PathLike[str], output: str | os.PathLike[str], tuned: Tuned, images: dict[str, str]
) -> Path:
    """Copy `path` to `output` with `tuned` in its `CamSpec`: the same graph, another request for a method.

    images: name -> SHA-256 of the photos that were used. The section ``tuned`` records them, the gain with
    its interval, and the versions. Raises `ModelFileError` and `OutputError`.
    """
    refuse_overwriting(path, output)
    source, target = Path(path), Path(output)
    model = load_model(source)
    spec = read_spec(source)
    record: dict[str, Any] = {
        **dataclasses.asdict(tuned),
        "source_sha256": file_sha256(source),
        "images": images,
        "tools": tool_versions("onnxruntime", "numpy", "scikit-learn"),
    }
    settings = tuned.settings if tuned.settings or spec.method.name != "cfcam" else {}
    changed = spec.with_method("cfcam", settings)
    extra = {name: section for name, section in changed.extra.items() if name != _OLDER}
    set_spec(model, dataclasses.replace(changed, extra={**extra, PROVENANCE: record}))
    write_model(model, target)
    return target
