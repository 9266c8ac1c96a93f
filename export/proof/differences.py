"""The exact gradient against central differences: the check that knows nothing of any derivative.

The exact gradient g is compared with central differences of the exact
scores along random directions r. For normally distributed r, (g - g') r is on average as large as |g - g'|: each
direction is an estimate of the relative L2 error of the *whole* gradient, in which one swapped
channel among two thousand shows as a few percent. Limit 1e-4; rounding makes 1e-6.
A kink (ReLU, max-pool, clip) inside the step makes the two one-sided differences
disagree, and the central one is wrong by at most half of that disagreement. So a direction counts
at the first step at which they agree to 1e-4; where they never do, it is tried again
without the cells that are exactly zero (after a ReLU these sit on the kink of a max-pool), and
then left out; as are steps in which so small a gradient moves the score by no more than rounding does. Half of
the directions must count.
Quantised graphs: rounding has no derivative; what is differentiated is the function that the
straight-through rule stands for, in which values are clipped to the range but not rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tail.cutting import Tail
from .exported_file import Exact, ExportedFile
from .float64 import Evaluator
from .results import Check

__all__ = ["gradient_against_differences", "moved"]

Array = NDArray[Any]

#: Differences cost several runs of the tail each, so they are taken on this many images.
_DIFFERENCED = 3
#: Steps of the differences, relative to the mean size of the activations. Small ones first: in a wide one
#: lie many kinks, which may cancel each other and pass for none.
_STEPS = (1e-7, 1e-8, 1e-6, 1e-5)
_KINK = 1e-4
#: Rounding of a score in float64, relative to the largest, over a network's depth.
_ROUNDING = 4e-15
#: A constant of the backward pass that float16 rounds (1 / cells of a mean), which the forward pass has exactly.
_HALF_DIFFERENCE = 1e-3


def gradient_against_differences(file: ExportedFile) -> list[Check]:
    """The exact gradient against central differences of the exact scores, for two classes."""
    size = file.batch or _DIFFERENCED
    part = slice(0, size * -(-min(_DIFFERENCED, len(file.images)) // size))
    exact = file.exact_at(part)
    if file.quantised:
        exact = exact.with_evaluator(Evaluator(file.tail.model, straight_through=True))
    activations = file.top.activations[part].astype(np.float64)
    errors: list[Array] = []
    counted = 0
    for turn, classes in enumerate((file.top.classes[part], file.other_classes[part])):
        gradient = exact.gradient(classes)
        found = _differences(exact, classes, activations, gradient, np.random.default_rng(turn))
        errors.append(found)
        counted += int(np.isfinite(found).sum())
    every = np.concatenate(errors)
    # Among float16 values the bounds of a quantiser are rounded in the backward pass alone: a value between the
    # two forms of a bound tells nothing, and there are many of them. What is wrong is wrong in most directions.
    judge = np.nanmedian if file.quantised and file.half else np.nanmax
    worst = float(judge(every)) if counted else float("nan")
    return [
        Check("gradient in float64 against differences", worst, _HALF_DIFFERENCE if file.half else 1e-4),
        Check("directions that could be compared, share", counted / every.size, 0.5, at_least=True),
    ]


def _differences(exact: Exact, classes: Array, activations: Array, gradient: Array, random: Any) -> Array:
    """Relative error of each image's gradient along one direction (N,); NaN where no step can tell."""
    count = len(activations)
    apart = (count, 1, 1, 1)
    size = np.abs(activations).mean(axis=(1, 2, 3)) + 1e-300
    norm = np.sqrt((gradient**2).sum(axis=(1, 2, 3)))
    scores = exact.scores()
    here, largest = _picked(scores, classes), np.abs(scores).max(axis=1)
    # An image whose gradient is zero: the scores must not move, by more than rounding.
    unit = np.where(norm > 0, norm * size, largest + 1e-300)
    errors = np.full(count, np.nan)
    for keep in (np.ones(apart, bool), activations != 0):
        direction = random.standard_normal(activations.shape) * keep
        expected = (gradient * direction).sum(axis=(1, 2, 3)) * size / unit
        for step in _STEPS:
            change = step * size.reshape(apart) * direction
            ahead, behind = (_picked(exact.scores(moved(exact.tail, sign * change)), classes) for sign in (1, -1))
            forward, backward = (ahead - here) / (step * unit), (here - behind) / (step * unit)
            smooth = np.abs(forward - backward) <= _KINK
            told = _ROUNDING * largest / (step * unit) <= _KINK
            errors = np.where(np.isnan(errors) & smooth & told, np.abs((forward + backward) / 2 - expected), errors)
            if not np.isnan(errors).any():
                return errors
    return errors


def _picked(scores: Array, classes: Array) -> Array:
    return np.take_along_axis(scores, classes[:, None], 1)[:, 0]


def moved(tail: Tail, change: Array) -> Callable[[Array, int], Array]:
    """Adds `change` (N, C, H, W) to batches of the layer's value."""

    def move(value: Array, place: int) -> Array:
        moved = value.reshape(len(value), -1).copy()
        moved[:, tail.index.reshape(-1)] += change[place : place + len(value)].reshape(len(value), -1)
        return moved.reshape(value.shape)

    return move
