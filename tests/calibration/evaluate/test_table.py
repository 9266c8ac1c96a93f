"""Means, intervals, differences and what is said beside them."""

import json
import math

import numpy as np
import pytest
from cfcam.calibration.evaluate import Column, Evaluation, Measured, make_table
from cfcam.calibration.statistics import mean_interval, paired_difference


def evaluation(values, methods=("a", "b"), baselines=("base",)):
    """values: (photos, rows, 2): of the columns up (higher) and down (lower)."""
    photos = tuple(
        Measured(
            str(i),
            target=0,
            top=0,
            probability=0.5,
            values=np.asarray(one, float),
            ms=np.array([float(i + row) for row in range(len(one))]),
        )
        for i, one in enumerate(values)
    )
    columns = {"up": Column("higher", ""), "down": Column("lower", "")}
    return Evaluation(methods, baselines, columns, {"group": ("up", "down")}, photos)


@pytest.fixture
def twenty():
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, (20, 3, 2))
    values[:, 1] = values[:, 0] + [0.2, 0.001] + rng.normal(0, 0.02, (20, 2))
    values[:, 2] += 2
    values[3, 1, 0] = math.nan
    return evaluation(values)


def test_cells_and_comparisons_are_those_of_statistics(twenty):
    table = make_table(twenty)
    a, b = twenty.values("a", "up"), twenty.values("b", "up")
    expected = mean_interval(a)
    cell = table.cells["a"]["up"]
    assert (cell.mean, cell.low, cell.high, cell.count) == (expected.mean, expected.low, expected.high, 20)
    assert table.cells["b"]["up"].count == 19
    found = {(one.row, one.column): one for one in table.comparisons}
    assert len(found) == 4
    one = found["b", "up"]
    difference = paired_difference(b, a, comparisons=4)
    assert (one.mean, one.low, one.high, one.count) == (difference.mean, difference.low, difference.high, 19)
    assert one.p == pytest.approx(min(1, 4 * difference.p_value), rel=0.5)
    assert one.p >= difference.p_value
    assert one.shown
    assert one.better
    assert not found["b", "down"].shown
    assert not found["base", "down"].better, "more of what should be low"


def test_best_is_a_method_and_baselines_that_win_are_named(twenty):
    table = make_table(twenty)
    lower = min("ab", key=lambda row: twenty.values(row, "down").mean())
    assert table.best == {"up": ("b",), "down": (lower,)}
    assert table.notes == ("a baseline has the best mean in up (base): such a figure alone shows nothing",)


def test_too_few_photos_leave_means_and_say_how_many_are_needed():
    values = np.random.default_rng(1).random((4, 3, 2))
    table = make_table(evaluation(values))
    cell = table.cells["b"]["down"]
    assert (cell.low, cell.high) == (None, None)
    assert cell.mean == pytest.approx(values[:, 1, 1].mean())
    assert table.comparisons == ()
    assert table.notes[:2] == (
        "4 photos or mosaics are too few for an interval, at least 10 are needed: up, down",
        "4 photos or mosaics are too few for differences in 4 comparisons, 10 are needed",
    )


def test_columns_without_values_and_json():
    values = np.random.default_rng(1).random((12, 3, 2))
    values[:, :, 1] = math.nan
    table = make_table(evaluation(values))
    assert table.cells["a"]["down"].count == 0
    assert "down" not in table.best
    document = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert document["cells"]["a"]["down"]["mean"] is None
    assert document["comparisons"][0]["column"] == "up"


def test_another_reference(twenty):
    table = make_table(twenty, reference="base")
    assert table.reference == "base"
    assert {one.row for one in table.comparisons} == {"a", "b"}


def test_milliseconds_are_medians(twenty):
    assert twenty.ms("b") == 1 + 9.5


def test_equal_methods_share_the_first_place_and_controls_are_no_baselines():
    values = np.random.default_rng(2).random((12, 3, 2))
    values[:, 1] = values[:, 0] * (1 + 1e-8)
    values[:, 2] += 1
    table = make_table(evaluation(values, baselines=("blurred",)))
    assert table.best["up"] == ("a", "b")
    assert table.notes == ("a changed by a control is best in up (blurred): no method was needed for that",)
