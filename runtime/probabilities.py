"""From what a model shows to probabilities: the one place that knows the kinds of output."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ArrayError

__all__ = ["class_probabilities", "softmax"]


def class_probabilities(
    scores: NDArray[np.floating[Any]], kind: Literal["logits", "softmax", "sigmoid", "binary", "regression"]
) -> NDArray[np.float32]:
    """Probabilities from the output that a model shows.

    Args:
        scores: float (..., K), the output.
        kind: What it holds: ``logits`` get a softmax and ``binary`` a sigmoid each; ``softmax`` and ``sigmoid`` are
            probabilities already.

    Returns:
        float32 (..., K), computed in double precision.

    Raises:
        ArrayError: Another kind; a ``regression`` has no probabilities.
    """
    values = scores.astype(np.float64)
    if kind == "logits":
        values = softmax(values)
    elif kind == "binary":
        values = np.exp(-np.logaddexp(0, -values))
    elif kind == "regression":
        raise ArrayError(
            "the file's scores are values of a regression, which has no probabilities: explain and verify work with it "
            "by methods such as cfcam or gradcam; what measures a class's probability does not"
        )
    elif kind not in ("softmax", "sigmoid"):
        raise ArrayError(f"unknown kind of output '{kind}'")
    return values.astype(np.float32)


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(x) / sum of exp(x) along the last axis of (..., K), without overflow."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
