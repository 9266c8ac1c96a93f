"""Reverse-mode differentiation of ONNX graphs. Needs the onnx package only."""

from . import rules  # the one place where the registries of rules are filled
from .candidates import Candidate
from .differentiate import (
    ClassesPerImage,
    Differentiated,
    LayerView,
    TargetLayer,
    differentiate,
    list_layers,
    per_image,
    write_gradients,
)
from .registry import supported_operators
from .score import Score
from .vjp import vjp

__all__ = [
    "Candidate",
    "ClassesPerImage",
    "Differentiated",
    "LayerView",
    "Score",
    "TargetLayer",
    "differentiate",
    "list_layers",
    "per_image",
    "rules",
    "supported_operators",
    "vjp",
    "write_gradients",
]
