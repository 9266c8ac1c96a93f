"""Watching explanations against a reference profile."""

import statistics
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.map_columns import map_columns
from cfcam.runtime.monitor import COLUMNS, Monitor, explanation_columns
from cfcam.runtime.profile import Profile, ProfileError, Usual


def profile(**columns):
    usual = {name: Usual(100, centre, 0.1, 0.1, centre, 0.1) for name, centre in columns.items()}
    return Profile("ab" * 32, "cfcam", 100, 0.0, usual)


def explanation(heat, probabilities=(0.1, 0.7, 0.2), target=1, **more) -> Any:
    known = {
        "map": np.asarray(heat, np.float32),
        "probabilities": np.asarray(probabilities, np.float32),
        "probability": float(probabilities[target]),
        "target": target,
        "method": "cfcam",
        "empty": not np.any(heat),
    }
    return SimpleNamespace(**{**known, **more})


def test_columns_of_an_explanation():
    heat = np.eye(10, dtype=np.float32)
    found = explanation_columns(explanation(heat))
    assert tuple(found) == COLUMNS
    assert found["margin"] == pytest.approx(0.5)
    assert found["spread"] == map_columns(heat)["spread"]
    assert set(explanation_columns(explanation(np.zeros((3, 3))))) == {"probability", "margin"}
    assert explanation_columns(explanation(heat, [0.9], 0))["margin"] is None
    assert explanation_columns(explanation(heat, target=0))["margin"] == pytest.approx(-0.6)


def test_a_map_in_the_corner_is_an_outlier():
    middle, corner = np.zeros((2, 20, 20), np.float32)
    middle[8:12, 8:12] = 1
    corner[:3, :3] = 1
    monitor = Monitor(profile(probability=0.7, centre_x=0.5, area=0.04), threshold=4)
    usual, odd = monitor.add(explanation(middle)), monitor.add(explanation(corner))
    assert (usual.outlier, odd.outlier) == (False, True)
    assert (odd.column, odd.distance) == ("centre_x", pytest.approx(4.25))  # (0.5 - 0.075) / 0.1
    monitor.add(explanation(np.zeros((20, 20))))
    assert monitor.add(explanation(middle, target=0)).distance is None
    state = monitor.state()
    assert {name: state[name] for name in ("seen", "empty", "other_class", "outliers")} == {
        "seen": 4,
        "empty": 1,
        "other_class": 1,
        "outliers": 1,
    }
    assert state["columns"]["centre_x"]["outliers"] == 1
    assert state["columns"]["centre_x"]["mean"] == pytest.approx((0.5 + 0.075) / 2)


def test_drift_by_its_formula():
    values = np.random.default_rng(1).normal(0.45, 0.1, 50).tolist()
    monitor = Monitor(profile(area=0.4))
    assert monitor.state()["columns"]["area"]["drift"] is None
    for value in values:
        monitor.add_columns({"area": value})
    found = monitor.state()["columns"]["area"]
    assert found["mean"] == pytest.approx(statistics.fmean(values))
    assert found["drift"] == pytest.approx((statistics.fmean(values) - 0.4) / (0.1 * (1 / 50 + 1 / 100) ** 0.5))


def test_the_mean_forgets():
    """A camera that was moved shows after as many photos again as the window has, not after all that were good."""
    monitor = Monitor(profile(area=0.4), window=100)
    for _ in range(5000):
        monitor.add_columns({"area": 0.4})
    for _ in range(300):
        monitor.add_columns({"area": 0.6})
    found = monitor.state()["columns"]["area"]
    assert found["mean"] == pytest.approx(0.6, abs=0.02)
    assert found["drift"] > 10


def test_no_false_alarm_in_the_long_run():
    """Over many streams like the profile's photos, the drift has the spread of a standard normal value, about."""
    random, drifts = np.random.default_rng(2), []
    for _ in range(300):
        centre = random.normal(0.4, 0.1 / 10)  # the mean of the profile's own 100 photos
        monitor = Monitor(profile(area=float(centre)), window=20)
        for value in random.normal(0.4, 0.1, 120).tolist():
            monitor.add_columns({"area": value})
        drifts.append(monitor.state()["columns"]["area"]["drift"])
    assert statistics.pstdev(drifts) == pytest.approx(1, abs=0.15)


def test_metrics_are_prometheus_text():
    monitor = Monitor(profile(area=0.4, probability=0.5))
    before = monitor.metrics()
    assert "cfcam_monitor_mean" not in before
    monitor.add_columns({"area": 2.0, "probability": 0.5})
    lines = monitor.metrics().splitlines()
    assert "cfcam_monitor_seen_total 1" in lines
    assert 'cfcam_monitor_outliers_total{column="area"} 1' in lines
    assert 'cfcam_monitor_mean{column="area"} 2.0' in lines
    assert "# TYPE cfcam_monitor_drift gauge" in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert all(line.startswith("#") or len(line.split()) == 2 for line in lines)


def test_threads_lose_nothing():
    monitor = Monitor(profile(area=0.4))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        work = [
            threading.Thread(target=lambda: [monitor.add_columns({"area": 2.0}) for _ in range(500)]) for _ in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert (monitor.state()["seen"], monitor.state()["outliers"]) == (2000, 2000)


def test_what_does_not_fit():
    heat = np.eye(4)
    monitor = Monitor(profile(area=0.4))
    with pytest.raises(ProfileError, match="the profile is of maps by 'cfcam', and this one is by 'gradcam'"):
        monitor.add(explanation(heat, method="gradcam"))
    with pytest.raises(ProfileError, match="this explanation is of a value"):
        monitor.add(explanation(heat, probability=None))
    with pytest.raises(ArrayError, match="expected a value of one of area"):
        monitor.add_columns({})
    with pytest.raises(ProfileError, match="none of the columns"):
        Monitor(profile(keep_only=0.5))
    with pytest.raises(ArrayError, match="threshold"):
        Monitor(profile(area=0.4), threshold=0)
    with pytest.raises(ArrayError, match="window"):
        Monitor(profile(area=0.4), window=0)
    with pytest.raises(ArrayError, match="expected Profile"):
        Monitor("profile.json")  # type: ignore[arg-type]
