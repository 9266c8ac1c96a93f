"""Importing torchvision (and timm) beside a CPU build of PyTorch that has no matching binary.

Without its compiled operators ``import torchvision`` fails with "operator torchvision::nms does
not exist". Declaring the two operators is enough for transforms and classifiers.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["import_torchvision"]

_libraries: list[Any] = []  # declarations last as long as these objects


def import_torchvision() -> Any:
    """The torchvision module; declares what is missing when it cannot be imported as it is."""
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        # Only now: a binary that does fit declares the operators itself, and aborts where they exist.
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
        import torchvision

    return torchvision
