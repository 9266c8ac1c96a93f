"""Decisions about means and shares: right values by hand, and how often they err in simulated runs."""

import math

import numpy as np
import pytest
from cfcam.calibration.verify.deciding import (
    RISK,
    Decision,
    fewer_than,
    mean_within,
    most_needed,
    planned_looks,
    risks,
    share_within,
)


def test_looks_double_up_to_all_photos():
    assert planned_looks(1) == (1,)
    assert planned_looks(48) == (48,)
    assert planned_looks(49) == (25, 49)
    assert planned_looks(400) == (25, 50, 100, 200, 400)
    for looks in range(1, 9):
        assert 0.75 * RISK < sum(risks(looks)) <= RISK
        assert list(risks(looks)) == sorted(risks(looks))


def test_an_exact_interval_of_a_share():
    # None hit of n: passed from (1 - most)**n <= risk on, which is 59 photos for 5 %.
    assert share_within(0, 59, 0.05, 0.05).outcome == "passed"
    assert share_within(0, 58, 0.05, 0.05) == Decision("undecided", 59)
    # All of n hit: failed from most**n <= risk on.
    assert share_within(1, 1, 0.05, 0.05).outcome == "failed"
    assert share_within(2, 2, 0.25, 0.05) == Decision("undecided", 3)
    # 95.2 % of 1 - 0.9**29, by hand: one of 29 or more is expected.
    assert share_within(0, 29, 0.1, 0.05).outcome == "passed"
    assert share_within(0, 28, 0.1, 0.05).outcome == "undecided"
    # A limit of 0 is about these photos.
    assert share_within(0, 3, 0.0).outcome == "passed"
    assert share_within(1, 1000, 0.0).outcome == "failed"


def test_the_sign_test_of_two_shares():
    assert fewer_than(0, 4, 0.05) == "undecided"  # 1 / 16
    assert fewer_than(0, 5, 0.05) == "passed"  # 1 / 32
    assert fewer_than(5, 0, 0.05) == "failed"
    assert fewer_than(0, 0, 0.05) == "undecided"


def test_bets_on_a_mean_by_hand():
    # All photos lose nothing: each bet grows by the factor 1 + share / 20 per photo, five bets as the code lists them.
    def capital(count: int) -> float:
        bets = zip((0.4, 0.2, 0.2, 0.1, 0.1), (0.98, 0.49, 0.245, 0.1225, 0.06125), strict=True)
        return sum(part * (1 + share / 20) ** count for part, share in bets)

    first = next(count for count in range(1, 200) if capital(count) >= 20)
    for count, outcome in ((first - 1, "undecided"), (first, "passed")):
        assert mean_within(np.zeros(count), np.full(count, 0.3), np.ones(count), 0.07).outcome == outcome
    # As far off as another class, where a tenth of that is allowed: the gain is .9 of 2 that are reckoned with, and
    # for the largest bet .4 * (1 + .98 * .45)**n, for the others less: 11 photos.
    far = [mean_within(np.full(n, 0.3), np.full(n, 0.3), np.ones(n), 0.1).outcome for n in (9, 11)]
    assert far == ["undecided", "failed"]
    assert mean_within([], [], [], 0.1).outcome == "undecided"
    assert mean_within([0.0, 0.0], [0.1, 0.1], [1, 1], 0.0).outcome == "passed"
    assert mean_within([0.0, 1e-3], [0.1, 0.1], [1, 1], 0.0).outcome == "failed"


def test_the_number_of_photos_that_is_named_decides():
    rng = np.random.default_rng(0)
    loss, scale = rng.exponential(0.1 * 0.2, 5000), np.full(5000, 0.2)
    few = mean_within(loss[:40], scale[:40], np.ones(40), 0.3)
    assert few.outcome == "undecided"
    assert few.needed is not None
    more = math.ceil(few.needed * 1.3)
    assert mean_within(loss[:more], scale[:more], np.ones(more), 0.3).outcome == "passed"
    assert most_needed([10, 30]) == 30
    assert most_needed([10, None]) is None
    assert most_needed([]) is None


def _skewed(name: str, runs: int, photos: int, mean: float, rng: np.random.Generator):
    """Losses (runs, photos) of this mean: most photos lose little, and a few lose much."""
    if name == "beta":
        return rng.beta(0.5, 0.5 * (1 - mean) / mean, (runs, photos))
    if name == "lognormal":
        return mean * np.exp(rng.normal(-0.5, 1, (runs, photos)))
    few = rng.random((runs, photos)) < 0.05  # one photo in twenty carries half of the loss
    return rng.exponential(mean / 2, (runs, photos)) + few * rng.exponential(10 * mean, (runs, photos))


@pytest.mark.parametrize("name", ["beta", "lognormal", "few"])
@pytest.mark.parametrize("photos", [11, 100, 200])
def test_at_the_limit_few_runs_pass_or_fail(name, photos):
    runs, limit, rng = 300, 0.93, np.random.default_rng(1)
    scales = 0.005 + rng.beta(0.8, 2.4, (runs, photos))
    losses = _skewed(name, runs, photos, (1 - limit) * 0.255, rng)
    ends = []
    for loss, scale in zip(losses, scales, strict=True):
        looks = (mean_within(loss[:n], scale[:n], np.ones(n), 1 - limit).outcome for n in planned_looks(photos))
        ends.append(next((one for one in looks if one != "undecided"), "undecided"))
    # 5 % of 300 are 15; one run more than 23 has a probability below 2 %.
    assert ends.count("passed") <= 23
    assert ends.count("failed") <= 23
    # What is clearly better is seen: a tenth of the allowed loss, with 200 photos.
    if photos == 200:
        better = [
            mean_within(loss / 10, scale, np.ones(photos), 1 - limit).outcome
            for loss, scale in zip(losses[:50], scales[:50], strict=True)
        ]
        assert better.count("passed") >= 45


@pytest.mark.parametrize(("most", "photos"), [(0.1, 11), (0.1, 100), (0.02, 300)])
def test_shares_at_the_limit_err_in_few_runs(most, photos):
    hit = np.random.default_rng(2).random((300, photos)) < most
    plan = list(zip(planned_looks(photos), risks(len(planned_looks(photos))), strict=True))
    ends = []
    for one in hit:
        looks = (share_within(int(one[:n].sum()), n, most, risk).outcome for n, risk in plan)
        ends.append(next((outcome for outcome in looks if outcome != "undecided"), "undecided"))
    assert ends.count("passed") <= 23  # 15, and two standard deviations
    assert ends.count("failed") <= 23
