"""How many inferences run at once."""

import os

import pytest
from cfcam.calibration.workers import share_cores


@pytest.mark.parametrize(("cores", "shares"), [(1, (1, 1)), (2, (2, 1)), (6, (4, 1)), (16, (4, 4)), (None, (1, 1))])
def test_cores_are_shared_out_among_at_most_four(monkeypatch, cores, shares):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert share_cores(None, None) == share_cores("cpu", None) == shares


def test_what_was_asked_for_and_what_runs_elsewhere_is_one_worker():
    assert share_cores("cpu", 3) == (1, 3)
    assert share_cores("cuda", None) == (1, None)
