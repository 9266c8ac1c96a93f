"""Reverse-mode differentiation of ONNX graphs. Needs the onnx package only."""

from . import rules  # the one place where the registries of rules are filled
from .candidates import Candidate
from .differentiate import Differentiated, LayerView, TargetLayer, differentiate, list_layers, write_gradients
from .registry import supported_operators
from .score import Score
from .vjp import vjp

__all__ = [
    "Candidate",
    "Differentiated",
    "LayerView",
    "Score",
    "TargetLayer",
    "differentiate",
    "list_layers",
    "rules",
    "supported_operators",
    "vjp",
    "write_gradients",
]
