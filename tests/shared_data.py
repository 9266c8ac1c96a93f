"""Where tests find real models and photos, which live beside the project and not in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["shared_path"]

_ROOT = Path(os.environ.get("CFCAM_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared_path(relative: str) -> Path:
    """Path of a shared file or folder; skips the test, or fails it under CI, when it is missing."""
    path = _ROOT / relative
    if path.exists():
        return path
    message = f"{path} is missing: put the shared data there or point CFCAM_SHARED at it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
