"""Writing files so that a crash or a full disk never leaves half of one, and scratch folders.

What is not finished has a name that says so (``.NAME.cfcam-*.part``), and is locked for as long as its process lives. A
process that is killed leaves it behind, without the lock: the next one that writes into the same folder removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing removed
    fcntl = None

__all__ = ["atomic_path", "is_part_name", "part_name", "scratch_folder", "write_bytes"]

_UNFINISHED = re.compile(r"\..*\.cfcam-[0-9a-f]{12}\.part", re.DOTALL)
#: A file that is younger may not have its lock yet.
_SECONDS = 1.0
#: Folders that were tidied by this process: once is enough.
_tidied: set[str] = set()


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds.

    Missing parent folders are made. The temporary file is removed when the block fails.
    Raises `OutputError` when the folder cannot be made or written, or the disk is full.
    """
    final = Path(path)
    temporary: Path | None = None
    lock: int | None = None
    if "\0" in str(final):
        raise OutputError(f"{final}: cannot be written (no name may hold a zero byte)")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            raise OutputError(f"{final}: is a folder, a file name was expected")
        _tidy(final.parent)
        # Not by mkstemp, whose files are private: this one gets what open() would have given it.
        place = final.with_name(part_name(final.name))
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        temporary = place
        _lock(lock)
        yield temporary
        if os.name == "nt":  # where an open file cannot be renamed
            os.close(lock)
            lock = None
        os.replace(temporary, final)
    except OSError as error:
        raise OutputError(f"{final}: cannot be written ({error.strerror or error})") from error
    finally:
        if lock is not None:
            os.close(lock)
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` atomically. Raises `OutputError`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def scratch_folder(parent: Path | None = None, name: str = "scratch") -> Iterator[Path]:
    """Yield an empty private folder, which is removed at the end of the block.

    Args:
        parent: The folder that it lies in; None for the system's folder for temporary files.
        name: A part of its name, for whoever finds it.

    Raises:
        OSError: It cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _tidy(parent)
    # Named before it is made: with a name from mkdtemp, an interrupt before it is known here leaves the folder behind.
    folder = parent / part_name(name)
    lock: int | None = None
    try:
        folder.mkdir(mode=0o700)
        if fcntl is not None:
            lock = os.open(folder, os.O_RDONLY)
            _lock(lock)
        yield folder
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def part_name(name: str) -> str:
    """A new name for what will be called `name` when it is finished; not too long for the system if `name` is not."""
    start = os.fsdecode(os.fsencode(name)[:100])
    return f".{start}.cfcam-{os.urandom(6).hex()}.part"


def is_part_name(name: str) -> bool:
    """Whether a file or folder of this name is not finished: one that `part_name` named."""
    return _UNFINISHED.fullmatch(name) is not None


def _lock(file: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # not every network disk has locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _tidy(folder: Path) -> None:
    """Remove what processes that were killed have left in `folder`."""
    key = os.path.realpath(folder)
    if fcntl is None or key in _tidied:
        return
    _tidied.add(key)
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if _UNFINISHED.fullmatch(name):
                with contextlib.suppress(OSError):
                    _remove_unless_locked(folder / name)


def _remove_unless_locked(path: Path) -> None:
    if time.time() - path.lstat().st_mtime < _SECONDS:
        return
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[union-attr] - raises where somebody has it
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(file)
