"""How long the stages of an explanation take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["timed"]


@contextmanager
def timed(times: dict[str, float], stage: str) -> Iterator[None]:
    """Add the milliseconds that the block takes to ``times[stage]``."""
    started = time.perf_counter()
    yield
    times[stage] = times.get(stage, 0.0) + (time.perf_counter() - started) * 1000
