"""Public names that were given another one: the old ones work for one more release, and say so."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["old_names"]


def old_names(module: str, new: Mapping[str, Any]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that still knows its old names.

    Args:
        module: its ``__name__``.
        new: old name -> what it is now.

    Returns:
        A function that gives the object for an old name, with a `DeprecationWarning`, and raises `AttributeError` for
        any other.
    """

    def find(name: str) -> Any:
        if name not in new:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        renamed = getattr(new[name], "__name__", name)
        warnings.warn(f"{module}.{name} is now called {renamed}", DeprecationWarning, stacklevel=2)
        return new[name]

    return find
