"""Atomic writing: the whole new file or the old one, and nothing beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from cfcam.runtime import files
from cfcam.runtime.errors import OutputError
from cfcam.runtime.files import atomic_path, part_name, scratch_folder, write_bytes

_KILLED = """
import os, signal
from pathlib import Path
from cfcam.runtime.files import atomic_path, scratch_folder
with atomic_path("x.bin") as file, scratch_folder(Path(".")) as folder:
    file.write_bytes(b"half")
    (folder / "inside").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


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


@pytest.mark.skipif(files.fcntl is None, reason="needs locks")
def test_what_a_killed_process_leaves_goes_with_the_next_write(tmp_path):
    killed = subprocess.run([sys.executable, "-c", _KILLED], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    assert len(left) == 2
    for path in left:
        os.utime(path, (0, 0))
    files._tidied.discard(str(tmp_path.resolve()))
    write_bytes(tmp_path / "y.bin", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["y.bin"]


@pytest.mark.skipif(files.fcntl is None, reason="needs locks")
def test_what_somebody_still_writes_stays(tmp_path):
    stranger = tmp_path / ".x.part"
    stranger.touch()
    os.utime(stranger, (0, 0))
    with atomic_path(tmp_path / "x.bin") as file, scratch_folder(tmp_path) as folder:
        for path in (file, folder):
            os.utime(path, (0, 0))
        files._tidied.clear()
        write_bytes(tmp_path / "y.bin", b"")
        assert file.exists()
        assert folder.exists()
        new = tmp_path / part_name("z")  # not locked yet
        new.touch()
        files._tidied.clear()
        write_bytes(tmp_path / "y.bin", b"")
        assert new.exists()
    assert stranger.exists()
    assert not folder.exists()


def test_a_name_that_is_only_just_short_enough(tmp_path):
    write_bytes(tmp_path / ("ä" * 127), b"1")
    assert (tmp_path / ("ä" * 127)).read_bytes() == b"1"
    with pytest.raises(OutputError, match="zero byte"):
        write_bytes("a\0b", b"")
