"""Passes over a graph: what they have in common, and running them until nothing changes.

A pass takes a `Graph`, changes it in place, and returns how much it changed, 0 for nothing. Its docstring says what
must hold before and what holds after. What needs to be told more than the graph is called by name where it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .graph import Graph

__all__ = ["Pass", "repeat"]

Pass = Callable[[Graph], int]

_log = logging.getLogger("cfcam.export.passes")


def repeat(graph: Graph, *passes: Pass) -> int:
    """Run `passes` in this order, again and again until none of them changes anything; returns how much changed."""
    total = 0
    while changes := {each.__name__: count for each in passes if (count := each(graph))}:
        _log.debug("changed: %s", changes)
        total += sum(changes.values())
    return total
