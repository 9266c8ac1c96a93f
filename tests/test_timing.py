"""Comparing two callables fairly, on a clock that the test moves."""

import pytest
import timing


class Machine:
    """A clock, and work that takes longer and longer: the machine gets busier."""

    def __init__(self, growth=1.0):
        self.now, self.speed, self.growth = 0.0, 1.0, growth
        self.calls = []

    def clock(self):
        return round(self.now * 1e9)

    def work(self, name, seconds):
        def run():
            self.calls.append(name)
            self.now += seconds * self.speed
            self.speed *= self.growth

        return run


@pytest.fixture
def machine():
    return Machine()


def test_steady_machine(machine):
    found = timing.compare(machine.work("p", 0.002), machine.work("e", 0.003), rounds=20, clock=machine.clock)
    assert found.ratio == pytest.approx(1.5)
    assert found.control == pytest.approx(1)
    assert (found.plain_ms, found.explained_ms) == (pytest.approx(2), pytest.approx(3))
    assert found.ratio_spread == pytest.approx(0, abs=1e-6)
    assert found.steady


def test_a_machine_that_slows_down_hardly_moves_the_ratio(machine):
    machine.growth = 1.02
    found = timing.compare(machine.work("p", 0.002), machine.work("e", 0.003), rounds=40, clock=machine.clock)
    assert machine.speed > 10, "the last rounds take ten times as long as the first"
    assert found.ratio == pytest.approx(1.5, rel=0.03)
    assert found.control == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize(("control", "steady"), [(1.0, True), (0.97, False), (1.03, False)])
def test_a_control_off_one_is_not_steady(control, steady):
    found = timing.Comparison(
        plain_ms=1, explained_ms=1, ratio=1, ratio_spread=0, control=control, control_spread=0, rounds=1
    )
    assert found.steady == steady


def test_runs_are_interleaved_and_equally_many(machine):
    timing.compare(machine.work("p", 1), machine.work("e", 1), rounds=30, clock=machine.clock)
    rounds = ["".join(machine.calls[i : i + 3]) for i in range(3, len(machine.calls), 3)]
    assert len(rounds) == 30
    assert {"".join(sorted(r)) for r in rounds} == {"epp"}
    assert len(set(rounds)) == 3, "the order changes"
