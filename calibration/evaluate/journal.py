"""What was measured already, a line of JSON per photo: a run that was killed goes on where it was.

Every line has the key of its photo, a hash of model, photo and plan: whatever else is in the file
is left alone, and not believed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...runtime.closing import Closing
from ...runtime.errors import OutputError
from ...runtime.json_reader import parse_json
from ...runtime.shown import utf8
from ..caches import Cache, cache_folder

__all__ = ["Journal", "cached_journal"]

_log = logging.getLogger("cfcam.calibration.evaluate")

#: Bytes of journals of runs that were never finished; the oldest go first.
_LIMIT = 64 * 2**20


class Journal(Closing):
    """Lines of ``{"key": ..., ...}`` in `path`, which is made when it is not there. Raises `OutputError`.

    A last line without its end is what a killed run leaves: it is cut off. damaged: how many other
    lines could not be read; their photos are measured again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damaged = 0
        self._known: dict[str, dict[str, Any]] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+")
            self._read()
        except OSError as error:
            raise OutputError(f"{self.path}: the journal cannot be opened ({error.strerror or error})") from error
        _log.info("%s: the journal, with %d photos that were measured before", self.path, len(self))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> dict[str, Any] | None:
        """The line of `key`, or None."""
        return self._known.get(key)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Append a line, and hand it to the system at once. Raises `OutputError`."""
        line = json.dumps(utf8({"key": key, **entry}), allow_nan=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self._known[key] = entry

    def close(self) -> None:
        """Close the file. Raises `OutputError`: what a full disk did not take is tried once more here."""
        try:
            self._file.close()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(whole)
                break
            whole += len(line)
            try:
                entry = parse_json(line, f"{self.path}: a line", OutputError)
                self._known[entry.pop("key")] = entry
            except (OutputError, KeyError, AttributeError, TypeError):
                self.damaged += 1
        self._file.seek(0, os.SEEK_END)


@contextmanager
def cached_journal(run: str) -> Iterator[Journal]:
    """A run's journal in the user's cache folder, where the next run that is the same finds it.

    It is removed when the block ends, and stays when the block raises: then the run is not done.

    Args:
        run: what `run_identity` gives for the run.

    Raises:
        OutputError: when the cache folder cannot be written.
    """
    folder = cache_folder("journals")
    Cache(folder, _LIMIT).trim()
    with Journal(folder / f"{run}.jsonl") as journal:
        yield journal
    journal.path.unlink(missing_ok=True)
