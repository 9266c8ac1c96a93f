"""Reverse-mode differentiation of ONNX graphs. Needs the onnx package only."""

from .core import vjp
from .differentiate import Differentiated, LayerView, differentiate, list_layers
from .layers import Candidate
from .registry import supported_operators
from .score import Score

__all__ = [
    "Candidate",
    "Differentiated",
    "LayerView",
    "Score",
    "differentiate",
    "list_layers",
    "supported_operators",
    "vjp",
]
