"""How far a build is, from the phases that TensorRT tells of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cfcam.runtime.engines.tensorrt.progress import make_monitor


class IProgressMonitor:
    """TensorRT's base class, which must be initialised."""

    def __init__(self) -> None:
        self.initialised = True


MODULE = SimpleNamespace(IProgressMonitor=IProgressMonitor)


def test_a_part_of_a_phase_is_a_part_of_its_step() -> None:
    told: list[tuple[str, float]] = []
    monitor: Any = make_monitor(MODULE, lambda phase, share: told.append((phase, share)))
    assert monitor.initialised
    monitor.phase_start("build", None, 4)
    assert monitor.step_complete("build", 0)
    monitor.phase_start("tactics", "build", 2)
    assert monitor.step_complete("tactics", 0)
    monitor.phase_finish("tactics")
    assert monitor.step_complete("build", 1)
    # One of four steps; then half of the second one as well; then two of four.
    assert told == [("build", 0), ("build", 0.25), ("tactics", 0.25), ("tactics", 0.375), ("build", 0.5)]


def test_the_share_never_goes_back() -> None:
    shares: list[float] = []
    monitor: Any = make_monitor(MODULE, lambda _, share: shares.append(share))
    monitor.phase_start("one", None, 2)
    monitor.step_complete("one", 0)
    monitor.phase_finish("one")
    monitor.phase_start("two", None, 10)
    monitor.step_complete("two", 0)
    monitor.step_complete("a phase that nobody began", 5)
    assert shares == [0, 0.5, 0.5, 0.5, 0.5]


def test_a_phase_without_steps() -> None:
    shares: list[float] = []
    monitor: Any = make_monitor(MODULE, lambda _, share: shares.append(share))
    monitor.phase_start("empty", None, 0)
    monitor.step_complete("empty", 0)
    monitor.step_complete("empty", 1)
    assert shares == [0, 1, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")])
def test_what_is_raised_is_kept_and_stops_the_build(error: BaseException) -> None:
    def report(phase: str, share: float) -> None:
        if share > 0:
            raise error

    monitor: Any = make_monitor(MODULE, report)
    monitor.phase_start("build", None, 2)
    assert monitor.raised is None
    assert monitor.step_complete("build", 0) is False
    assert monitor.step_complete("build", 1) is False
    assert monitor.raised is error
