"""Reference profiles from rows."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.audit.profile import LEAST, PROFILED, make_profile, read_profile, write_profile
from cfcam.runtime.profile import ProfileError


def row(number, **columns):
    return dict.fromkeys(PROFILED) | {"sha256": f"{number:064}", "error": None, "empty": False} | columns


def test_centres_and_scales():
    """Of many normal values both scales are the standard deviation; of skewed ones they differ."""
    random = np.random.default_rng(0)
    area, probability = random.normal(0.4, 0.05, 4000), 1 - random.exponential(0.1, 4000)
    rows = [row(n, area=area[n], probability=probability[n], empty=n < 40) for n in range(4000)]
    found = make_profile(rows, "ab" * 32, "cfcam")
    assert (found.photos, found.empty, set(found.columns)) == (4000, 0.01, {"area", "probability"})
    usual = found.columns["area"]
    assert usual.centre == pytest.approx(0.4, abs=0.003)
    assert (usual.below, usual.above, usual.deviation) == pytest.approx((0.05, 0.05, 0.05), rel=0.06)
    skewed = found.columns["probability"]
    assert skewed.centre == pytest.approx(1 - 0.1 * np.log(2), abs=0.005)
    assert skewed.below == pytest.approx(0.1 * (np.log(40) - np.log(2)) / 1.96, rel=0.06)
    assert skewed.above < skewed.below / 3


def test_two_in_a_hundred_faults_do_not_hide_themselves():
    random = np.random.default_rng(0)
    rows = [row(n, area=value) for n, value in enumerate(random.normal(0.3, 0.02, 980))]
    rows += [row(n, area=1.0) for n in range(980, 1000)]
    found = make_profile(rows, "ab" * 32, "cfcam")
    distances = [found.distance({"area": one["area"]})[0] for one in rows]
    assert all(distance > 5 for distance in distances[980:])
    assert sum(distance > 5 for distance in distances[:980]) == 0


def test_a_constant_column_has_a_scale(tmp_path):
    found = make_profile([row(n, peak_x=0.5) for n in range(LEAST)], "ab" * 32, "cfcam")
    assert found.distance({"peak_x": 0.53}) == (pytest.approx(3), "peak_x")
    write_profile(tmp_path / "profile.json", found)
    assert read_profile(tmp_path / "profile.json") == found


def test_too_few_photos():
    rows = [row(n, area=0.1) for n in range(LEAST - 1)]
    more = [row(0, area=0.1), row(900, area=0.1, error="no photo"), row(901)]
    with pytest.raises(ProfileError, match=r"a profile needs at least 50 different photos.*the audit has 50"):
        make_profile(rows + more, "ab" * 32, "cfcam")
    assert make_profile([*rows, row(902, area=0.1)], "ab" * 32, "cfcam").photos == LEAST
