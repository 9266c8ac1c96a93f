"""Checks of single settings, with one wording for all of them.

where: how the message begins, such as ``settings of 'cfcam'``. All raise `MethodError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .errors import MethodError

__all__ = ["check_choice", "check_flag", "check_integer", "check_number"]


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
