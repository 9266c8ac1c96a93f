from __future__ import annotations

import math

import numpy as np
import pytest
from cfcam.calibration.measures import rank_biased_overlap, spearman
from cfcam.runtime.errors import ArrayError
from scipy.stats import spearmanr


def test_spearman_equals_scipy_with_ties():
    rng = np.random.default_rng(0)
    a, b = np.round(rng.random((2, 6, 7)), 1)
    for other in (b, a**2 - b, -b):
        assert spearman(a, other) == pytest.approx(spearmanr(a.ravel(), other.ravel())[0])
    assert spearman(a, a**3) == pytest.approx(1)
    assert math.isnan(spearman(a, np.ones_like(a)))
    with pytest.raises(ArrayError, match="NaN"):
        spearman(a, a * np.nan)


def definition(first, second, p):
    """Webber's sum, place by place."""
    m = len(first)
    agreement = [len(set(first[:d]) & set(second[:d])) / d for d in range(1, m + 1)]
    return (1 - p) * sum(p**d * agreement[d] for d in range(m)) + agreement[-1] * p**m


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_overlap_equals_its_definition(p):
    rng = np.random.default_rng(1)
    for m in (1, 2, 17, 64):
        first, second = rng.permutation(m), rng.permutation(m)
        found = rank_biased_overlap(first, second, p)
        assert found == pytest.approx(definition(first.tolist(), second.tolist(), p))
        assert found == pytest.approx(rank_biased_overlap(second, first, p))
        assert rank_biased_overlap(first, first, p) == pytest.approx(1)


def test_the_top_weighs_most():
    order = np.arange(20)
    top, bottom = order.copy(), order.copy()
    top[:2], bottom[-2:] = [1, 0], [19, 18]
    assert rank_biased_overlap(order, top) < rank_biased_overlap(order, bottom) < 1


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [([0, 1], [0], 0.9), ([0, 1], [0, 2], 0.9), ([0, 0], [0, 0], 0.9), ([], [], 0.9), ([0], [0], 1)],
)
def test_refused(first, second, p):
    with pytest.raises(ArrayError, match="rank-biased overlap"):
        rank_biased_overlap(first, second, p)
