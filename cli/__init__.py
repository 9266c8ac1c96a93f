"""The `cfcam` command. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

from collections.abc import Sequence

from .collecting import fewer_collections

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 1 done in part, 2 not done)."""
    with fewer_collections():
        from .app import run

        return run(argv)
