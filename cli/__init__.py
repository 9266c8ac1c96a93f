"""The `cfcam` command. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import gc
from collections.abc import Sequence

__all__ = ["main"]

#: New objects after which Python looks for dead circles; its own 700 make a tenth of what a command's start takes, as
#: what modules bring with them lives.
_NEW_OBJECTS = 50_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 1 done in part, 2 not done)."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        from .app import run

        return run(argv)
    finally:
        gc.set_threshold(*before)
