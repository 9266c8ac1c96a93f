"""What this process holds in memory, as the system sees it."""

from __future__ import annotations

import os
import sys

__all__ = ["high_water", "resident"]


def resident() -> int | None:
    """Bytes of this process that are in memory now; None where the system does not say (it does on Linux)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def high_water() -> int | None:
    """The most bytes that this process ever held in memory; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): kilobytes, on macOS bytes
    return max(size, resident() or 0)  # Linux brings its figure up to date now and then only
