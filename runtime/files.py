"""Writing files so that a crash or a full disk never leaves half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

__all__ = ["atomic_path", "write_bytes"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds.

    Missing parent folders are made. The temporary file is removed when the block fails.
    Raises `OutputError` when the folder cannot be made or written, or the disk is full.
    """
    final = Path(path)
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            raise OutputError(f"{final}: is a folder, a file name was expected")
        # Not by mkstemp, whose files are private: this one gets what open() would have given it.
        place = final.with_name(f".{final.name}.{os.urandom(4).hex()}.part")
        place.touch(exist_ok=False)
        temporary = place
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        raise OutputError(f"{final}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` atomically. Raises `OutputError`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
