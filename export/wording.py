"""Pieces of error messages."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["first_line", "some", "words"]

_SHOWN = 4
_LONGEST = 300


def some(items: Sequence[str]) -> str:
    """The first few of `items`, and how many more there are."""
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f", and {rest} more" if rest > 0 else "")


def words(error: BaseException) -> str:
    """Class and message of `error` on one line, shortened."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {_short(text)}" if text else type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, shortened, for errors that go on with advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _short(lines[0]) if lines else type(error).__name__


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
