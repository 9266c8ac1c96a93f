"""Where builds keep what the next one can use: prepared photos, ranges, and TensorRT's timings."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from ..runtime.errors import OutputError
from ..runtime.files import write_bytes

__all__ = ["Cache", "cache_folder"]


def cache_folder(name: str) -> Path:
    """The user's cache folder for `name`; ``CFCAM_CACHE`` moves all of them. It is not made here.

    Elsewhere than Windows and macOS as the XDG Base Directory Specification says.
    """
    own = os.environ.get("CFCAM_CACHE")
    if own:
        return Path(own) / name
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cfcam" / name


class Cache:
    """Files in a folder that only save time: what cannot be read or kept is made again, and nobody is stopped by it.

    folder: made when the first file is kept. limit: bytes that `trim` leaves.
    problem: why nothing can be kept, once that is known; then it is not tried again.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self.problem: str | None = None

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def read(self, name: str) -> bytes | None:
        """The content of a file, which now counts as just used; None where it is not there or cannot be read."""
        path = self._folder / name
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # somebody else's, or on a read-only disk
            os.utime(path)
        return data

    def write(self, name: str, data: bytes) -> None:
        if self.problem is not None:
            return
        try:
            write_bytes(self._folder / name, data)
        except OutputError as error:
            self.problem = str(error)

    def trim(self) -> None:
        """Remove files, the one that was used longest ago first, until no more than the limit is left."""
        kept = []
        for path in self._folder.rglob("*"):
            with contextlib.suppress(OSError):  # another build removed it
                if path.is_file():
                    kept.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= self._limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
