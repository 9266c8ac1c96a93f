"""Packages that only serve to compare with; a test that needs a missing one is skipped, and says which."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import pytest

__all__ = ["pytorch_grad_cam", "quantus", "torchcam"]


def pytorch_grad_cam() -> ModuleType:
    """pytorch-grad-cam (``pip install grad-cam``)."""
    _need("pytorch_grad_cam", "grad-cam")
    from torchvision_compat import import_torchvision

    import_torchvision()
    return importlib.import_module("pytorch_grad_cam")


def torchcam() -> ModuleType:
    """torch-cam (``pip install torchcam``), with its modules `methods` and `metrics`."""
    _need("torchcam", "torchcam")
    importlib.import_module("torchcam.metrics")
    return importlib.import_module("torchcam")


def quantus() -> ModuleType:
    """Quantus (``pip install quantus``)."""
    _need("quantus", "quantus")
    return importlib.import_module("quantus")


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"to compare with it: pip install {package}")
