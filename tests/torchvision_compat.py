"""Importing torchvision (and timm) beside a CPU build of PyTorch that has no matching binary.

Without its compiled operators ``import torchvision`` fails with "operator torchvision::nms does
not exist". Declaring the two operators is enough for transforms and classifiers.
"""

from __future__ import annotations

from typing import Any

__all__ = ["import_torchvision"]

_libraries: list[Any] = []  # declarations last as long as these objects


def import_torchvision() -> Any:
    """The torchvision module; declares what is missing first."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
    import torchvision

    return torchvision
