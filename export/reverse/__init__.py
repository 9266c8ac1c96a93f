"""Reverse-mode differentiation of ONNX graphs. Needs the onnx package only."""

from .core import vjp
from .registry import supported_operators

__all__ = ["supported_operators", "vjp"]
