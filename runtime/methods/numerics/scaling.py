"""Number ranges: arrays of any magnitude into safe float32, and maps back out of it.

Norms and products of values near the ends of float32 overflow or vanish. Every rule is
homogeneous in its activations and gradients or works in float64, so an exact power of two
can be taken out first and put back at the end.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import CamResult, FloatArray, Form, Grouping

__all__ = [
    "NOWHERE_POSITIVE",
    "NO_ACTIVATIONS",
    "NO_GRADIENTS",
    "as_map",
    "finish",
    "safe_float32",
    "safe_pair",
    "weighted_channels",
]

#: Why a map is empty.
NO_ACTIVATIONS, NO_GRADIENTS = "all activations are zero", "all gradients are zero"
NOWHERE_POSITIVE = "the weighted sum of the channels is nowhere positive"

# Arrays whose largest magnitude lies within 2**-20 .. 2**20 are used as they are: with
# them no norm or sum over channels comes near the ends of float32.
_SAFE_EXPONENT = 20

# Largest exponent of a map's maximum that is handed out; float32 ends at 127, and the
# rest is room for whoever adds or blends maps.
_MAP_EXPONENT = 120


def safe_float32(array: FloatArray) -> tuple[NDArray[np.float32], int]:
    """`array` as float32 and the exponent e that was taken out: ``array = result * 2**e``.

    Takes float16, float32 or float64; finite values. The input is never written to, but
    the result may share its memory.
    """
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    top = max(float(array.max()), -float(array.min()))
    exponent = math.frexp(top)[1]
    if top == 0 or abs(exponent) <= _SAFE_EXPONENT:
        return array.astype(np.float32, copy=False), 0
    return np.ldexp(array, -exponent).astype(np.float32), exponent


def safe_pair(activations: FloatArray, gradients: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Both as `safe_float32` gives them, and the sum of the exponents: that of a product of the two."""
    a, a_exponent = safe_float32(activations)
    g, g_exponent = safe_float32(gradients)
    return a, g, a_exponent + g_exponent


def as_map(values: NDArray[np.floating[Any]], exponent: int = 0) -> NDArray[np.float32]:
    """``values * 2**exponent`` as float32, at the nearest scale that float32 can hold.

    A map's shape is worth more than its scale: where the true scale would overflow or
    become subnormal the whole map is scaled by one power of two.
    """
    top = float(values.max())
    if top == 0:
        return np.zeros(values.shape, np.float32)
    size = math.frexp(top)[1]
    shift = min(max(size + exponent, -_MAP_EXPONENT), _MAP_EXPONENT) - size
    if shift == 0:
        return values.astype(np.float32, copy=False)
    return np.ldexp(values.astype(np.float64), shift).astype(np.float32)


def weighted_channels(
    weights: NDArray[np.floating[Any]], activations: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """ReLU(sum_k w_k A_k), (H, W), of weights (C,) and activations (C, H, W), in the wider of their types."""
    return np.maximum(np.einsum("k,khw->hw", weights, activations), 0)


def finish(
    values: NDArray[np.floating[Any]],
    activations: FloatArray,
    gradients: FloatArray | None,
    *,
    exponent: int = 0,
    grouping: Grouping | None = None,
    form: Form | None = None,
    nothing: str = NOWHERE_POSITIVE,
) -> CamResult:
    """A method's (H, W) map (any scale, not negative) as a `CamResult` that says when it is empty.

    gradients: None for methods that do without. nothing: why, where neither activations nor
    gradients are zero and the map is.
    """
    if not activations.any():
        empty = NO_ACTIVATIONS
    elif gradients is not None and not gradients.any():
        empty = NO_GRADIENTS
    elif not values.any():
        empty = nothing
    else:
        return CamResult(as_map(values, exponent), grouping, form=form)
    return CamResult(np.zeros(values.shape, np.float32), grouping, empty, form)
