"""How far TensorRT's builder is, and stopping it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["BuildProgress", "make_monitor"]

#: Told the phase that began or went on, and the share of the whole build that is done, 0 to 1.
BuildProgress = Callable[[str, float], None]


def make_monitor(module: Any, report: BuildProgress) -> Any:
    """An `IProgressMonitor` of `module` (TensorRT's) that tells `report`.

    What `report` raises (a KeyboardInterrupt among others) stops the build and is kept in ``raised``:
    nothing may be thrown through TensorRT's own code.
    """

    class Monitor(module.IProgressMonitor):
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.raised: BaseException | None = None
            self._lock = threading.Lock()
            self._open: dict[str, list[Any]] = {}  # phase -> [parent, steps, steps done]
            self._share = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._open[phase_name] = [parent_phase, max(num_steps, 1), 0]
            self._tell(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                if phase_name in self._open:
                    self._open[phase_name][2] = step + 1
            self._tell(phase_name)
            return self.raised is None

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._open.pop(phase_name, None)

        def _tell(self, phase: str) -> None:
            try:
                with self._lock:
                    # Phases overlap in any order: the bar never goes back.
                    self._share = max(self._share, self._done(phase))
                report(phase, self._share)
            except BaseException as error:
                self.raised = self.raised or error

        def _done(self, phase: str) -> float:
            """Of the outermost phase, with the present one as a part of its present step."""
            inner, name = 0.0, phase
            while name in self._open:
                parent, steps, done = self._open[name]
                inner = min((done + (inner if name != phase else 0.0)) / steps, 1.0)
                name = parent
            return inner

    return Monitor()
