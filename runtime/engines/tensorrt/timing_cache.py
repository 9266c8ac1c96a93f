"""TensorRT's timing cache: how long each kernel took, kept from build to build.

A cache holds for one version and one kind of GPU, so each has a file of its own; TensorRT checks this
once more by the header that it writes. TensorRT for RTX times nothing while it builds, and has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import OutputError
from ...files import write_bytes
from .packages import Flavour

__all__ = ["attach_timing_cache", "keep_timing_cache", "timing_cache_file"]


def timing_cache_file(folder: Path, rt: Flavour, compute_capability: str | None) -> Path | None:
    """The file in `folder` for this version and target; None for a flavour that has no use for one."""
    if rt.name != "tensorrt":
        return None
    target = "this-gpu" if compute_capability is None else "sm" + compute_capability.replace(".", "")
    return folder / f"{rt.name}-{rt.module.__version__}-{target}.cache"


def attach_timing_cache(config: Any, file: Path) -> None:
    """Give the builder `config` what `file` holds; an empty cache where it is missing, damaged or another GPU's."""
    try:
        data = file.read_bytes()
    except OSError:
        data = b""
    for content in (data, b"") if data else (b"",):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def keep_timing_cache(config: Any, file: Path) -> None:
    """Write the builder's cache back to `file`. What cannot be kept is measured again next time, no more."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    try:
        write_bytes(file, bytes(cache.serialize()))
    except OutputError:
        return
