"""Two audits side by side."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from cfcam.calibration.audit.compare import COMPARED, compare_profile, compare_rows
from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.findings import FINDINGS
from cfcam.calibration.audit.profile import make_profile
from cfcam.calibration.audit.row import empty_row


def row(number, area, margin=0.5, **more):
    known = {"empty": False, "target": 1, "area": area, "margin": margin}
    return empty_row(f"{number}.jpg", f"{number:0>64}") | known | more


def entry(found, name):
    return next(one for one in (*found["columns"], *found["findings"]) if one["name"] == name)


def test_the_same_audit_twice():
    rows = [row(n, area) for n, area in enumerate(np.random.default_rng(0).random(60).tolist())]
    found = compare_rows(rows, rows)
    assert found["photos"] == {"a": 60, "b": 60, "same": 60}
    assert (found["paired"], found["labels_changed"]) == (True, 0)
    assert not any(one["drift"] for one in (*found["columns"], *found["findings"]))
    assert [one["name"] for one in found["columns"]] == list(COMPARED)
    assert [one["name"] for one in found["findings"]] == [one.name for one in FINDINGS]
    assert entry(found, "spread") == {
        "name": "spread",
        "a": None,
        "b": None,
        "count_a": 0,
        "count_b": 0,
        "p_value": None,
        "drift": False,
    }


def test_pairs_see_what_two_heaps_do_not():
    """Every map grows by a hundredth: on the same photos that is drift, on others it is nothing."""
    areas = np.random.default_rng(0).random(60)
    first = [row(n, area) for n, area in enumerate(areas.tolist())]
    noise = np.random.default_rng(1).normal(0.01, 0.002, 60)
    second = [row(n, area, target=1 + (n < 3)) for n, area in enumerate((areas + noise).tolist())]
    found = compare_rows(first, second)
    assert entry(found, "area")["drift"]
    assert entry(found, "area")["b"] - entry(found, "area")["a"] == pytest.approx(0.01, abs=0.001)
    assert found["labels_changed"] == 3
    others = [one | {"sha256": f"x{n}"} for n, one in enumerate(second)]
    apart = compare_rows(first, others)
    assert (apart["paired"], apart["labels_changed"]) == (False, None)
    assert not entry(apart, "area")["drift"]


def test_findings_by_counting():
    """9 photos gain the finding and none loses it: two-sided, 2 / 2^9 by McNemar; unpaired by Fisher's test."""
    first = [row(n, 0.5, 0.5) for n in range(30)]
    second = [row(n, 0.5, 0.0 if n < 9 else 0.5) for n in range(30)]
    found = compare_rows(first, second)
    tests = sum(one["p_value"] is not None for one in (*found["columns"], *found["findings"]))
    undecided = entry(found, "undecided")
    assert (undecided["a"], undecided["b"]) == (0, 0.3)
    # Holm: the margin has the smallest p-value, and the second one is multiplied by the number of tests less one
    assert undecided["p_value"] == pytest.approx(2 / 2**9 * (tests - 1), rel=1e-6)
    apart = entry(compare_rows(first, [one | {"sha256": f"x{n}"} for n, one in enumerate(second)]), "undecided")
    one_sided = math.comb(30, 9) / math.comb(60, 9)
    assert apart["p_value"] == pytest.approx(min(1, 2 * one_sided * tests), rel=1e-6)


def test_a_shift_of_other_photos():
    random = np.random.default_rng(0)
    first = [row(n, area) for n, area in enumerate(random.normal(0.3, 0.1, 200).tolist())]
    second = [row(1000 + n, area) for n, area in enumerate(random.normal(0.4, 0.1, 200).tolist())]
    second += [first[0], row(5000, 0.1, error="no photo")]
    found = compare_rows(first, second)
    assert found["photos"] == {"a": 200, "b": 201, "same": 1}
    assert not found["paired"]
    assert [one["name"] for one in found["columns"] if one["drift"]] == ["area"]


def test_false_alarms_are_rare():
    """Of 40 pairs of audits of one kind of photo, hardly one has a drift anywhere."""
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(40):
        sides = [
            [row(f"{side}{n}", area, margin) for n, (area, margin) in enumerate(random.random((40, 2)).tolist())]
            for side in "ab"
        ]
        found = compare_rows(*sides)
        alarms += any(one["drift"] for one in (*found["columns"], *found["findings"]))
    assert alarms <= 4


def test_a_profile_and_an_audit():
    """Welch's test by its formula, with the normal distribution in place of t: there are 400 photos."""
    random = np.random.default_rng(0)
    first = [row(n, area) for n, area in enumerate(random.normal(0.3, 0.1, 400).tolist())]
    second = [row(1000 + n, area) for n, area in enumerate(random.normal(0.315, 0.05, 400).tolist())]
    profile = make_profile(first, "ab" * 32, "cfcam")
    found = compare_profile(profile, second)
    assert {one["name"] for one in found["columns"]} == {"area", "margin"}
    area = entry(found, "area")
    x, y = ([one["area"] for one in rows] for rows in (first, second))
    error = math.sqrt(statistics.variance(x) / 400 + statistics.variance(y) / 400)
    z = (statistics.fmean(y) - statistics.fmean(x)) / error
    assert area["p_value"] == pytest.approx(2 * 2 * (1 - statistics.NormalDist().cdf(abs(z))), rel=0.2)
    assert area["drift"]
    assert not entry(found, "margin")["drift"]  # the same constant on both sides
    assert not any(one["drift"] for one in compare_profile(profile, first)["columns"])


def test_nothing_to_compare():
    with pytest.raises(AuditError, match="no photo without an error"):
        compare_rows([row(1, 0.5)], [row(2, 0.5, error="no photo")])
    few = compare_rows([row(1, 0.5)], [row(1, 0.9)])
    assert entry(few, "area")["p_value"] is None
