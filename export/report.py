"""What an export tells its caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.contract.spec import CamSpec
from .proof.results import Proof

__all__ = ["ExportReport", "Stopwatch"]


@dataclass(frozen=True)
class ExportReport:
    """path: the written file. spec: what it says about itself. proof: what was measured.

    seconds: pass name -> seconds. warnings: one line each, for the user.
    plain_path: the plain export, when the caller asked to keep it.
    """

    path: Path
    spec: CamSpec
    proof: Proof
    seconds: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    plain_path: Path | None = None


class Stopwatch:
    """Times named passes and announces each as it starts."""

    def __init__(self, progress: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._progress is not None:
            self._progress(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
