"""A coarse map guided by the activations of a finer layer: where in the object, at no backward pass's cost.

A late layer's map knows what speaks for the class, on a coarse grid. A finer layer of the same inference has edges and
parts, and no gradient is needed there: channels that fire where the coarse map is high are the ones that matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..numerics.matrix_products import product
from ..numerics.resizing import resize, shrink

__all__ = ["correlations", "guide"]

Array = NDArray[np.float32]


def guide(
    coarse: Array, detail: Array, *, offset: float, floor: float, blind: bool = False
) -> tuple[Array, str | None]:
    """The map of a coarse layer, sharpened by what a finer layer saw.

    With L the signed coarse map and B the finer activations::

        r_k  = correlation, over the cells of L, of L and B_k pooled to L's grid
        m2   = ReLU(sum_k (r_k + offset) B_k / ||B_k||)
        map  = m1 * (floor + (1 - floor) * m2)       m1 = ReLU(L) resized; m2 is over its maximum

    Args:
        coarse: Float32 (h, w), signed, somewhere positive.
        detail: Float32 (D, H, W), finite, not written to.
        offset: The share of the gate that no class can move.
        floor: What the gate lets pass where the finer layer saw nothing.
        blind: A control: r_k = 0, so that the gate knows nothing of the class.

    Returns:
        The map, of the scale of L, (H, W); or ReLU(L) and the reason why it was not sharpened.
    """
    alone = np.maximum(coarse, 0)
    norms = np.sqrt(np.einsum("khw,khw->k", detail, detail))
    live = np.flatnonzero(norms > 0)
    if not len(live):
        return alone, "all activations of the detail layer are zero"
    flat = detail.reshape(len(detail), -1)
    if len(live) < len(detail):
        detail, flat, norms = detail[live], flat[live], norms[live]
    known = np.zeros_like(norms) if blind else correlations(coarse, shrink(detail, coarse.shape))
    weights = (known + np.float32(offset)) / norms
    fine = np.maximum(product(weights[None].astype(np.float32), flat)[0].reshape(detail.shape[1:]), 0)
    top = fine.max()
    if not top > 0:
        return alone, _why_nothing(coarse, flat)
    if fine.min() == top:
        return alone, "the detail layer is the same everywhere"
    return resize(alone[None], fine.shape)[0] * (floor + (1 - floor) * (fine / top)), None


def _why_nothing(coarse: Array, flat: Array) -> str:
    """Why no cell of the detail layer, float32 (D, H * W), counts for the coarse map."""
    if (flat == flat[:, :1]).all():
        return "the detail layer is the same everywhere"
    if coarse.min() == coarse.max():
        return "the last layer's map is the same everywhere"
    return "the detail layer has nothing where the map is"


def correlations(coarse: Array, pooled: Array) -> Array:
    """Pearson's correlation over cells of `coarse` (h, w) with each of `pooled` (D, h, w), (D,); 0 of a constant."""
    target = (coarse - coarse.mean()).reshape(-1)
    rows = pooled.reshape(len(pooled), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("kp,kp->k", rows, rows) * np.float32(target @ target))
    # What rounding leaves of a constant is no shape.
    flat = lengths <= 1e-6 * np.float32(np.abs(target).max(initial=0)) * np.abs(pooled).max(initial=0)
    return np.where(flat, 0, (rows @ target) / np.where(flat, 1, lengths)).astype(np.float32)
