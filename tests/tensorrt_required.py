"""Tests of TensorRT are skipped where its package is absent, but never unnoticed by CI."""

from __future__ import annotations

import importlib.util
import os
import platform

import pytest

__all__ = ["require_tensorrt"]


def require_tensorrt() -> None:
    """Skip the test without `tensorrt_rtx`; fail it under CI where the package ought to be there.

    The environment of a device (no onnx) is not meant to have it, nor can a machine for which
    there are no wheels.
    """
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        return
    missing = "tensorrt_rtx is not installed (cfcam[rtx]): TensorRT's parser was NOT asked"
    possible = platform.machine().lower() in ("x86_64", "amd64") and platform.system() in ("Linux", "Windows")
    if os.environ.get("CI") and possible and importlib.util.find_spec("onnx") is not None:
        pytest.fail(missing)
    pytest.skip(missing)
