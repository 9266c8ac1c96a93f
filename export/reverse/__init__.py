"""Reverse-mode differentiation of ONNX graphs. Needs the onnx package only."""

from .candidates import Candidate
from .core import vjp
from .differentiate import Differentiated, LayerView, TargetLayer, differentiate, list_layers
from .registry import supported_operators
from .score import Score

__all__ = [
    "Candidate",
    "Differentiated",
    "LayerView",
    "Score",
    "TargetLayer",
    "differentiate",
    "list_layers",
    "supported_operators",
    "vjp",
]
