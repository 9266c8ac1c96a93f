"""Fewer collections of garbage, and as many as before afterwards."""

from __future__ import annotations

import gc

import pytest
from cfcam.cli.collecting import fewer_collections


@pytest.mark.parametrize(("before", "within"), [(700, 50_000), (60_000, 60_000), (0, 0)])
def test_what_was_set_before_comes_back(before: int, within: int) -> None:
    own = gc.get_threshold()
    gc.set_threshold(before, 10, 10)
    try:
        with fewer_collections():
            assert gc.get_threshold() == (within, 10, 10)
        assert gc.get_threshold() == (before, 10, 10)
    finally:
        gc.set_threshold(*own)
