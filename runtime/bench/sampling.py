"""Timing several things fairly: interleaved, on one clock."""

from __future__ import annotations

import gc
import random
import time
from array import array
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["GARBAGE_COLLECTION", "Clock", "Progress", "sample"]

#: Nanoseconds since some moment.
Clock = Callable[[], int]
#: Told how many rounds are done, and how many there will be; None where the time decides.
Progress = Callable[[int, int | None], None]

#: Said in every result, because it decides what the largest values are.
GARBAGE_COLLECTION = "on, as in use; collected once before the first timed run"

Key = TypeVar("Key", bound=Hashable)


def sample(
    calls: Mapping[Key, Callable[[], object]],
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    least: int = 1,
    clock: Clock = time.perf_counter_ns,
    progress: Progress | None = None,
) -> dict[Key, NDArray[np.float64]]:
    """Milliseconds of every call in every round: key -> (rounds,).

    A round runs each call once, so that a machine that slows down or is busy for a while slows all of them. The order
    is shuffled, and the next round has it the other way round (A B C, C B A), so that none of them runs in the
    warm caches of another more often than the rest. Ends after `rounds`, or when `seconds` have passed and
    `least` rounds are done, whichever comes first; one of the two must be given.
    """
    if rounds is None and seconds is None:
        raise ValueError("sample: expected rounds, seconds, or both")
    taken = {key: array("d") for key in calls}
    order = list(calls.items())
    shuffle = random.Random(0).shuffle
    gc.collect()
    begun = clock()
    done = 0
    while rounds is None or done < rounds:
        if seconds is not None and done >= least and clock() - begun >= seconds * 1e9:
            break
        if done % 2 == 0:
            shuffle(order)
        for key, call in order:
            started = clock()
            call()
            taken[key].append((clock() - started) / 1e6)
        order.reverse()
        done += 1
        if progress is not None:
            progress(done, rounds)
    return {key: np.array(values) for key, values in taken.items()}
