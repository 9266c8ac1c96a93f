"""A folder of files that only save time."""

from __future__ import annotations

import os
from pathlib import Path

from cfcam.calibration.caches import Cache


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 25)
    for number, name in enumerate(("a", "b/x", "b/y")):
        cache.write(name, b"0123456789")
        os.utime(tmp_path / "c" / name, (number, number))
    assert cache.read("a") == b"0123456789"  # used just now
    cache.trim()
    assert [cache.has(name) for name in ("a", "b/x", "b/y")] == [True, False, True]
    assert cache.read("b/x") is None
    assert cache.problem is None


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "c").touch()
    cache = Cache(tmp_path / "c", 0)
    cache.write("a", b"x")
    assert cache.problem is not None
    assert cache.problem.startswith(f"{tmp_path / 'c' / 'a'}: cannot be written")
    assert cache.read("a") is None
    cache.trim()
