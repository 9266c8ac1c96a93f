"""How far off a result may be: what rounding alone does to the same figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .results import image_errors

__all__ = ["Yardstick"]

Array = NDArray[Any]

_MOST_RUNS = 6
#: A result may be off by so many times what rounding does.
_TIMES = 3


class Yardstick:
    """What rounding does to a value of each image.

    Whether a mask flips is chance, so where one rough run does not explain an error it is run again with other last
    bits, a few times, and the largest error counts.

    Args:
        exact: the value (N, ...) without rounding.
        rough: makes the value (N, ...) with it; called with 0, 1, 2, ...: with 0 nothing else is changed.
        floor: relative error that is allowed in any case.
    """

    def __init__(self, exact: Array, rough: Callable[[int], Array], floor: float = 1e-5) -> None:
        self.exact = exact
        self._rough, self._floor = rough, floor
        self._errors = np.zeros(len(exact))
        self._runs = 0

    def shares(self, values: Array, reference: Array | None = None) -> Array:
        """Which share of the allowed error each image uses up: (N,). reference: what is right; None is `exact`."""
        errors = image_errors(values, self.exact if reference is None else reference)
        while True:
            shares = errors / np.maximum(self._floor, _TIMES * self._errors)
            if shares.max() <= 1 or self._runs >= _MOST_RUNS:
                return shares
            self._errors = np.maximum(self._errors, image_errors(self._rough(self._runs), self.exact))
            self._runs += 1

    def rounding(self) -> Array:
        """What one rough run is off by, relative to each image's value: (N,)."""
        return image_errors(self._rough(0), self.exact)
