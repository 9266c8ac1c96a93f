"""Checks of settings and arguments, with one wording for all of them, and the hint for a name that is unknown.

where: how the message begins, such as ``settings of 'cfcam'``. Checks of settings raise `MethodError`, those of
arguments (`expect`, `check_count`) `ArrayError`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ArrayError, CfcamError, MethodError
from .shown import shown_value

__all__ = [
    "check_choice",
    "check_count",
    "check_flag",
    "check_integer",
    "check_number",
    "check_path",
    "did_you_mean",
    "expect",
]

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    type(None): "None",
    os.PathLike: "a path",
    Mapping: "a mapping",
    Sequence: "a sequence",
    Iterable: "a sequence",
    Callable: "a function",
}


def expect(where: str, name: str, value: Any, *kinds: Any, error: type[CfcamError] = ArrayError) -> None:
    """The check of an argument at the public door.

    Args:
        where: What was called.
        name: Of the argument.
        value: What was given.
        *kinds: Types that are taken; None for None. True and False are no numbers.
        error: What is raised.

    Raises:
        ArrayError: The value is of another type (unless `error` is another kind).
    """
    types = tuple(type(None) if kind is None else kind for kind in kinds)
    scalar = isinstance(value, np.ndarray) and value.ndim == 0  # which says of itself that it can be iterated
    if isinstance(value, types) and (not isinstance(value, bool) or bool in types) and not scalar:
        return
    words = " or ".join(_WORDS.get(kind, kind.__name__) for kind in types)
    raise error(f"{where}: {name}: expected {words}, got {shown_value(value)} ({type(value).__name__})")


def check_path(where: str, path: Any, error: type[CfcamError], name: str = "path") -> Path:
    """The path, checked: text or an `os.PathLike` that a file can be called. Raises `error`."""
    expect(where, name, path, str, os.PathLike, error=error)
    try:
        found = Path(path)
        fits = b"\0" not in os.fsencode(found)
    except (TypeError, UnicodeEncodeError):  # a PathLike of bytes, or half a character
        found, fits = Path(), False
    if not fits:
        raise error(f"{where}: {name}: no file can be called {shown_value(path)}")
    if not found.name:
        raise error(f"{found}: is a folder, a file was expected")
    return found


def check_count(name: str, value: Any, low: int = 1, high: int = 2**31 - 1) -> None:
    """Raise `ArrayError` unless an argument is a whole number from `low` to `high`."""
    good = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not good or not low <= value <= high:
        raise ArrayError(f"{name}: expected a whole number from {low} to {high}, got {shown_value(value)}")


def check_number(where: str, name: str, value: Any, low: float, high: float) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not low <= value <= high:  # NaN lies nowhere
        raise MethodError(f"{where}: {name}: expected a number from {low} to {high}, got {shown_value(value)}")


def check_integer(where: str, name: str, value: Any, low: int, high: int = 2**31 - 1) -> None:
    """A bound above stands for what can be meant: without one, a slip of the keyboard asks for all memory there is."""
    good = isinstance(value, int) and not isinstance(value, bool)
    if not good or value < low:
        raise MethodError(f"{where}: {name}: expected a whole number of at least {low}, got {shown_value(value)}")
    if value > high:
        raise MethodError(f"{where}: {name}: expected a whole number of at most {high}, got {shown_value(value)}")


def check_flag(where: str, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise MethodError(f"{where}: {name}: expected true or false, got {shown_value(value)}")


def check_choice(where: str, name: str, value: Any, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise MethodError(f"{where}: {name}: expected one of {listed}, got {shown_value(value)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """How a message goes on behind an unknown `name`: with the nearest of those that are `known`, where one is near."""
    if len(name) > 200:  # nobody's slip of the keyboard, and slow to compare
        return "."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else "."
