"""Times by stage."""

from __future__ import annotations

import time

from cfcam.runtime.timing import timed


def test_a_stage_adds_up_in_milliseconds() -> None:
    times = {"decode": 1000.0}
    for _ in range(2):
        with timed(times, "decode"), timed(times, "sleep"):
            time.sleep(0.005)
    assert list(times) == ["decode", "sleep"]
    assert 10 <= times["sleep"] <= times["decode"] - 1000 < 1000
