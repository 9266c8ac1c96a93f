"""A machine that slows down, and a process that grows, are injected; both are found, and nothing else is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cfcam.runtime.bench.soak import soak

_MB = 2**20


def run(machine, milliseconds, held=lambda runs: 200 * _MB, seconds=10.0):
    """Soak work that takes ``milliseconds(run)`` while ``held(run)`` bytes are held."""

    def call():
        machine.calls.append("run")
        machine.now += round(milliseconds(len(machine.calls)) * 1e6)

    return soak(call, seconds, clock=machine.clock, memory=lambda: held(len(machine.calls)))


def test_steady(machine):
    noise = np.random.default_rng(0).uniform(9, 12, 2000)
    report = run(machine, lambda i: noise[i])
    assert report.passed
    assert report.seconds == pytest.approx(10, abs=0.02)
    assert report.latency.n == len(machine.calls)
    assert report.drift == pytest.approx(1, abs=0.05)
    assert report.growth == 0
    assert len(report.parts) == 10
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


def test_a_leak_is_found(machine):
    report = run(machine, lambda i: 10, lambda i: 200 * _MB + i * 20_000)
    assert report.grew
    assert not report.drifted
    assert not report.passed
    assert report.growth == pytest.approx(0.85 * 1000 * 20_000, rel=0.1)  # of 1000 runs
    assert report.smallest_leak is not None
    assert 4000 < report.smallest_leak < 20_000


def test_the_smallest_leak_that_is_promised_is_found(machine):
    promised = run(machine, lambda i: 10).smallest_leak
    machine.calls.clear()
    assert promised is not None
    assert run(machine, lambda i: 10, lambda i: int(200 * _MB + 1.1 * promised * i)).grew
    machine.calls.clear()
    assert not run(machine, lambda i: 10, lambda i: int(200 * _MB + 0.5 * promised * i)).grew


def test_memory_that_settles_is_no_leak(machine):
    report = run(machine, lambda i: 10, lambda i: 200 * _MB + min(i, 350) * 50_000)
    assert report.growth is not None
    assert report.limit is not None
    assert report.growth > report.limit
    assert report.passed


def test_drift_is_found(machine):
    noise = np.random.default_rng(1).uniform(0.9, 1.2, 3000)
    report = run(machine, lambda i: 10 * noise[i] * (1 + 0.0004 * i))
    assert report.drifted
    assert not report.grew
    assert not report.passed
    assert report.drift > 1.15
    assert report.slope > 0


def test_a_busy_moment_is_no_drift(machine):
    report = run(machine, lambda i: 30 if 300 < i < 400 else 10)
    assert report.passed
    assert report.latency.max == pytest.approx(30)


def test_slow_work_is_run_twenty_times_and_unknown_memory_is_no_verdict(machine):
    report = run(machine, lambda i: 2000, lambda i: None, seconds=1)
    assert report.latency.n == 20
    assert (report.growth, report.limit, report.smallest_leak) == (None, None, None)
    assert report.passed
