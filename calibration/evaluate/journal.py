"""What was measured already, a line of JSON per photo: a run that was killed goes on where it was.

Every line has the key of its photo, a hash of model, photo and plan: whatever else is in the file
is left alone, and not believed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ...runtime.closing import Closing
from ...runtime.errors import OutputError

__all__ = ["Journal"]


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

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> dict[str, Any] | None:
        """The line of `key`, or None."""
        return self._known.get(key)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Append a line, and hand it to the system at once. Raises `OutputError`."""
        line = json.dumps({"key": key, **entry}, allow_nan=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self._known[key] = entry

    def close(self) -> None:
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(whole)
                break
            whole += len(line)
            try:
                entry = json.loads(line)
                self._known[entry.pop("key")] = entry
            except (ValueError, KeyError, AttributeError, TypeError):
                self.damaged += 1
        self._file.seek(0, os.SEEK_END)
