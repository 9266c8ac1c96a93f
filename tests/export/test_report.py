"""Passes are announced as they start, and their times add up."""

from __future__ import annotations

import pytest
from cfcam.export import report
from cfcam.export.report import Stopwatch


def test_passes_are_announced_and_their_times_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 12.5, 20.0, 21.0, 30.0, 30.25])
    monkeypatch.setattr(report.time, "perf_counter", lambda: next(now))
    heard: list[str] = []
    watch = Stopwatch(heard.append)
    for name in ("load", "prove", "load"):
        with watch(name):
            assert heard[-1] == name
    assert heard == ["load", "prove", "load"]
    assert watch.seconds == {"load": 2.75, "prove": 1.0}


def test_nobody_has_to_listen() -> None:
    watch = Stopwatch()
    with watch("load"):
        pass
    assert watch.seconds["load"] >= 0
