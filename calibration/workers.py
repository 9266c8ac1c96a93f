"""How many inferences run at once."""

from __future__ import annotations

import os

__all__ = ["share_cores"]

#: Each worker needs memory of its own.
_MOST = 4


def share_cores(provider: str | None, threads: int | None) -> tuple[int, int | None]:
    """Workers, and the CPU threads of each: on a CPU several inferences of one thread do more than one of several.

    Args:
        provider: what runs the model; None for the CPU.
        threads: how many were asked for, which then all serve one inference; None for all cores.

    Returns:
        One worker with `threads`, where threads were asked for or the model does not run on the CPU; else as many
        workers as there are cores, at most four, and the cores shared out among them.
    """
    if provider not in (None, "cpu") or threads is not None:
        return 1, threads
    cores = os.cpu_count() or 1
    workers = min(_MOST, cores)
    return workers, cores // workers
