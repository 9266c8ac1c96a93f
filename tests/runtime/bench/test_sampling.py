from __future__ import annotations

import pytest
from cfcam.runtime.bench.sampling import sample


def test_every_round_runs_each_once_and_the_next_one_backwards(machine):
    told = []
    taken = sample(
        {name: machine.work(name, ms) for name, ms in [("a", 1.5), ("b", 2), ("c", 3)]},
        rounds=40,
        clock=machine.clock,
        progress=lambda done, total: told.append((done, total)),
    )
    assert {name: set(ms.tolist()) for name, ms in taken.items()} == {"a": {1.5}, "b": {2.0}, "c": {3.0}}
    rounds = ["".join(machine.calls[i : i + 3]) for i in range(0, 120, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert all(first == second[::-1] for first, second in zip(rounds[::2], rounds[1::2], strict=True))
    assert len(set(rounds)) == 6
    assert told[0] == (1, 40)
    assert told[-1] == (40, 40)


def test_times_stay_in_the_order_of_the_rounds(machine):
    taken = sample({"a": machine.work("a", 1, 2, 3), 7: machine.work("b", 5)}, rounds=4, clock=machine.clock)
    assert taken["a"].tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize(
    ("rounds", "seconds", "least", "expected"),
    [(None, 0.1, 1, 10), (3, 0.1, 1, 3), (99, 0.1, 1, 10), (None, 0.1, 15, 15)],
)
def test_ends_by_rounds_or_by_time(machine, rounds, seconds, least, expected):
    call = {"a": machine.work("a", 10)}
    assert len(sample(call, rounds=rounds, seconds=seconds, least=least, clock=machine.clock)["a"]) == expected


def test_an_end_is_needed(machine):
    with pytest.raises(ValueError, match="rounds, seconds"):
        sample({"a": machine.work("a", 10)})
