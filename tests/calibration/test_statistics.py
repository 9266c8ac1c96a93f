from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from cfcam.calibration.statistics import (
    TooFewPhotosError,
    holm,
    mean_interval,
    paired_difference,
    photos_needed,
    smallest_effect,
)
from cfcam.runtime.errors import ArrayError, CfcamError


def test_interval_equals_the_normal_one_where_there_are_many():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = mean_interval(values)
    error = values.std(ddof=1) / 20
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.mean - 1.96 * error, found.mean + 1.96 * error), abs=0.1 * error
    )
    assert found.count == 400


def test_it_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = [
        found.low <= 5 <= found.high
        for found in (mean_interval(rng.normal(5, 1, 40), resamples=400, seed=i) for i in range(400))
    ]
    assert 0.90 < np.mean(hits) < 0.97


def test_rows_of_one_photo_count_once():
    """A hundred copies of each of twelve photos are still twelve photos."""
    values = np.random.default_rng(2).normal(size=12)
    many = mean_interval(np.repeat(values, 100), np.repeat(np.arange(12), 100).tolist())
    once = mean_interval(values)
    assert (many.mean, many.low, many.high) == pytest.approx((once.mean, once.low, once.high))
    assert many.count == 12
    uneven = mean_interval([*values, 100.0], [*range(12), 0])
    assert uneven.mean == pytest.approx((values.sum() - values[0] + (values[0] + 100) / 2) / 12)


def test_undefined_rows_are_left_out():
    values = np.random.default_rng(3).normal(size=15)
    holes = np.concatenate([values, [math.nan, math.nan]])
    assert mean_interval(holes) == mean_interval(values)
    assert paired_difference(holes, np.zeros(17)) == paired_difference(values, np.zeros(15))


def test_seed():
    values = np.random.default_rng(4).normal(size=15)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_a_constant_has_no_width():
    found = mean_interval(np.full(12, 0.25))
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)


def test_pairs_show_what_the_rows_alone_do_not():
    rng = np.random.default_rng(5)
    second = rng.normal(size=30)
    first = second + 0.1 + 0.05 * rng.normal(size=30)
    found = paired_difference(first, second)
    assert found.shown
    assert found.mean == pytest.approx(0.1, abs=0.03)
    assert found.p_value < 0.001
    assert mean_interval(first).low < mean_interval(second).high
    assert paired_difference(second, first).mean == pytest.approx(-found.mean)
    assert not paired_difference(rng.normal(size=30), rng.normal(size=30)).shown


def test_p_value_is_the_share_of_sign_patterns():
    each = np.array([3.0, 1, 4, 1, 5, -9, 2, 6, 5, 3])
    means = [np.mean(np.array(signs) * each) for signs in itertools.product([-1, 1], repeat=10)]
    expected = np.mean(np.abs(means) >= abs(each.mean()) - 1e-12)
    assert paired_difference(each, np.zeros(10)).p_value == pytest.approx(expected)


def test_no_difference_is_rarely_claimed():
    rng = np.random.default_rng(6)
    p = [paired_difference(*rng.normal(size=(2, 12)), resamples=500, seed=i).p_value for i in range(300)]
    assert np.mean(np.array(p) < 0.05) < 0.08


def test_holm():
    # 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1 raised to its predecessor's 0.06
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    assert len(holm([])) == 0
    for bad in ([0.1, 1.2], [math.nan], [[0.1]]):
        with pytest.raises(ArrayError, match="p-values from 0 to 1"):
            holm(bad)


def test_photos_needed():
    assert photos_needed() == 10
    assert photos_needed(comparisons=100) == 12  # 2**-11 is 0.00049, just below 0.05 / 100
    p = paired_difference(np.arange(1, 13), np.zeros(12), comparisons=100, resamples=5000).p_value
    assert p * 100 <= 0.05


def test_too_few():
    with pytest.raises(TooFewPhotosError, match=r"4 photos .* at least 10 are needed"):
        mean_interval(np.arange(4.0))
    with pytest.raises(TooFewPhotosError, match="at least 12"):
        paired_difference(np.arange(11.0), np.zeros(11), comparisons=100)
    with pytest.raises(TooFewPhotosError, match="2 photos"):
        mean_interval(np.arange(40.0), ["a", "b"] * 20)
    assert issubclass(TooFewPhotosError, CfcamError)


def test_smallest_effect_is_found_as_often_as_it_says():
    rng = np.random.default_rng(7)
    effect = smallest_effect(2.0, 40)
    assert effect == pytest.approx((1.96 + 0.8416) * 2 / math.sqrt(40), rel=1e-3)
    shown = [
        paired_difference(rng.normal(effect, 2, 40), np.zeros(40), resamples=300, seed=i).shown for i in range(300)
    ]
    assert 0.72 < np.mean(shown) < 0.88
    assert smallest_effect(2.0, 40, comparisons=10) > effect


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_interval(np.ones((12, 2))), "one figure per row"),
        (lambda: mean_interval(np.ones(12), ["a"]), "a name for each of 12 rows"),
        (lambda: mean_interval(np.ones(12), level=95), "between 0 and 1"),
        (lambda: paired_difference(np.ones(12), np.ones(13)), "12 and 13"),
    ],
)
def test_refused(call, words):
    with pytest.raises(ArrayError, match=words):
        call()
