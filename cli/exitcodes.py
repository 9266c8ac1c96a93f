"""What the exit code of every command means."""

from __future__ import annotations

__all__ = ["DONE", "DONE_IN_PART", "NOT_DONE"]

DONE = 0
#: Done, but some inputs failed, or a check, gate or budget was missed.
DONE_IN_PART = 1
NOT_DONE = 2
