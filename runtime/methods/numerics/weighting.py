"""Sums of channels with one weight each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["weighted_channels"]


def weighted_channels(
    weights: NDArray[np.floating[Any]], activations: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """ReLU(sum_k w_k A_k), (H, W), of weights (C,) and activations (C, H, W), in the wider of their types."""
    return np.maximum(np.einsum("k,khw->hw", weights, activations), 0)
