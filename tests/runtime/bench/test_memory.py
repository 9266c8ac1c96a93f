"""Memory of this process, as Linux tells it."""

from __future__ import annotations

import pytest
from cfcam.runtime.bench.memory import high_water, resident


def test_memory_that_is_touched_is_seen():
    before, highest = resident(), high_water()
    if before is None or highest is None:
        pytest.skip("the system does not say")
    held = bytearray(b"x" * 2**26)
    now, most = resident(), high_water()
    assert now is not None
    assert most is not None
    assert now >= before + 2**25
    assert most >= now
    assert most >= highest >= before > 2**20
    assert len(held) == 2**26
