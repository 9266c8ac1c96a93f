"""Where builds keep what the next one can use: prepared photos, and TensorRT's timings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """The user's cache folder for `name`; ``CFCAM_CACHE`` moves all of them. It is not made here.

    Elsewhere than Windows and macOS as the XDG Base Directory Specification says.
    """
    own = os.environ.get("CFCAM_CACHE")
    if own:
        return Path(own) / name
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cfcam" / name
