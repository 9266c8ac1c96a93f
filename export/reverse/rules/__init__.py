"""Derivative rules, one module per family. Importing this package registers them all."""

from . import (
    activations,
    attention,
    contrib,
    contrib_attention,
    convolution,
    elementwise,
    indexing,
    linear,
    normalisation,
    pooling,
    quantisation,
    reduction,
    resampling,
    shape,
    softmax,
)

__all__ = [
    "activations",
    "attention",
    "contrib",
    "contrib_attention",
    "convolution",
    "elementwise",
    "indexing",
    "linear",
    "normalisation",
    "pooling",
    "quantisation",
    "reduction",
    "resampling",
    "shape",
    "softmax",
]
