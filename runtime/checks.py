"""Checks of single settings, with one wording for all of them, and the hint for a name that is unknown.

where: how the message begins, such as ``settings of 'cfcam'``. All checks raise `MethodError`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from .errors import MethodError

__all__ = ["check_choice", "check_flag", "check_integer", "check_number", "did_you_mean"]


def check_number(where: str, name: str, value: Any, low: float, high: float) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:
        raise MethodError(f"{where}: {name}: expected a number from {low} to {high}, got {value!r}")


def check_integer(where: str, name: str, value: Any, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise MethodError(f"{where}: {name}: expected a whole number of at least {low}, got {value!r}")


def check_flag(where: str, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise MethodError(f"{where}: {name}: expected true or false, got {value!r}")


def check_choice(where: str, name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise MethodError(f"{where}: {name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """How a message goes on behind an unknown `name`: with the nearest of those that are `known`, where one is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else "."
