"""Certified top-k: the largest change of an image under which the top cells of its map provably stay on top.

Interval bounds are pushed through the ONNX graph, one rule per operator (`registry`); `bounds` walks the graph,
`topk` turns the layer's bounds into a radius. Needs numpy, onnx and ONNX Runtime.
"""

from . import activations, affine, elementwise  # noqa: F401 - each registers its operators
from .bounds import IntervalNetwork
from .registry import ARITHMETICS, Arithmetic, Bounds, supported_operators
from .topk import Certificate, CertifiedTopK

__all__ = [
    "ARITHMETICS",
    "Arithmetic",
    "Bounds",
    "Certificate",
    "CertifiedTopK",
    "IntervalNetwork",
    "supported_operators",
]
