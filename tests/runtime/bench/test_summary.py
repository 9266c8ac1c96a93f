from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from cfcam.runtime.bench.summary import Ratio, Summary


def test_percentiles_of_known_samples():
    times = np.random.default_rng(0).permutation(np.arange(1, 101))
    found = Summary.of(times)
    assert asdict(found) == pytest.approx(
        {"n": 100, "mean": 50.5, "min": 1, "p50": 50.5, "p90": 90.1, "p99": 99.01, "max": 100}
    )
    assert found.spread == pytest.approx((90.1 - 50.5) / 50.5)


def test_of_one_run_everything_is_that_run():
    assert set(asdict(Summary.of([3.0])).values()) == {1, 3.0}


def test_a_series_against_itself_is_one():
    times = np.random.default_rng(1).lognormal(size=50)
    assert asdict(Ratio.of(times, times)) == {"median": 1, "low": 1, "high": 1, "n": 50}


def test_ratios_within_rounds_survive_a_busy_machine():
    rng = np.random.default_rng(2)
    # Every round has a speed of its own, up to eight times slower.
    speed = rng.uniform(1, 8, 200)
    noise = rng.normal(1, 0.05, (2, 200))
    found = Ratio.of(1.5 * speed * noise[0], speed * noise[1])
    assert found.low < 1.5 < found.high
    assert found.high - found.low < 0.05
    assert found.low <= found.median <= found.high
