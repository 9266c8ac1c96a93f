"""Atomic writing: the whole new file or the old one, and nothing beside it."""

from __future__ import annotations

import pytest
from cfcam.runtime.errors import OutputError
from cfcam.runtime.files import atomic_path, write_bytes


def test_written_and_replaced(tmp_path):
    path = tmp_path / "deep" / "er" / "x.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["x.bin"]
    other = tmp_path / "open.bin"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode  # not mkstemp's private mode


def test_a_failing_block_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"x\.bin: cannot be written"):
        write_bytes(tmp_path / "file" / "x.bin", b"")
    with pytest.raises(OutputError, match="is a folder"):
        write_bytes(tmp_path, b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / ("x" * 300), b"")


def test_a_write_that_is_cut_short(tmp_path):
    resource = pytest.importorskip("resource", reason="limits on file size are a Unix matter")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_bytes(tmp_path / "x.bin", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_the_umask_is_not_touched(tmp_path, monkeypatch):
    """It belongs to the whole process: another thread would make files that everybody can write."""
    monkeypatch.setattr("os.umask", lambda mask: pytest.fail("the umask was set"))
    write_bytes(tmp_path / "x.bin", b"new")
    assert (tmp_path / "x.bin").read_bytes() == b"new"
