"""The yardstick: what rounding does is made out by runs, no more of them than are needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cfcam.export.proof.yardstick import Yardstick
from numpy.typing import NDArray

EXACT = np.array([[3.0, 4.0], [6.0, 8.0]])  # of length 5 and 10


def runs(*errors: float) -> tuple[Callable[[int], NDArray[np.float64]], list[int]]:
    """Rough runs that are off by these shares of the value, one after the other, and which were asked for."""
    asked: list[int] = []

    def rough(turn: int) -> NDArray[np.float64]:
        asked.append(turn)
        return EXACT * (1 + errors[min(turn, len(errors) - 1)])

    return rough, asked


def test_an_error_below_the_floor_needs_no_run() -> None:
    rough, asked = runs(1.0)
    np.testing.assert_allclose(Yardstick(EXACT, rough, 1e-5).shares(EXACT * (1 + 5e-6)), [0.5, 0.5])
    assert asked == []


def test_three_times_what_rounding_does_is_allowed() -> None:
    rough, asked = runs(0.01)
    np.testing.assert_allclose(Yardstick(EXACT, rough).shares(EXACT * 1.02), [2 / 3, 2 / 3])
    assert asked == [0]


def test_runs_are_repeated_until_one_explains_the_error_and_are_remembered() -> None:
    rough, asked = runs(1e-6, 1e-6, 0.1)
    yardstick = Yardstick(EXACT, rough)
    assert yardstick.shares(EXACT * 1.2).max() == pytest.approx(2 / 3)
    assert yardstick.shares(EXACT * 1.1).max() == pytest.approx(1 / 3)
    assert asked == [0, 1, 2]


def test_what_no_run_explains_is_an_error() -> None:
    rough, asked = runs(0.01)
    shares = Yardstick(EXACT, rough).shares(EXACT * [[1.0], [1.3]])
    np.testing.assert_allclose(shares, [0, 10])
    assert asked == list(range(6))


def test_against_another_reference() -> None:
    rough, _ = runs(0.01)
    assert Yardstick(EXACT, rough).shares(-EXACT, -EXACT).max() == 0


def test_what_one_run_is_off_by_is_told_image_by_image() -> None:
    rough, asked = runs(2e-6)
    np.testing.assert_allclose(Yardstick(EXACT, rough).rounding(), [2e-6, 2e-6], rtol=1e-6)
    assert asked == [0]
