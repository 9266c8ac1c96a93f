"""What pydantic found wrong, in the words of the house: the key's path, and what was expected there."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...runtime.shown import shown_value

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["nearest", "problems_in"]


def problems_in(error: ValidationError, model: type[BaseModel]) -> str:
    """All that is wrong with a document, on one line.

    Args:
        error: What validating it raised.
        model: What it was validated as.

    Returns:
        For each problem the path of the key and what was expected; for an unknown key the nearest known one.
    """
    return "; ".join(_words(one, model) for one in error.errors())


def nearest(name: str, known: Sequence[str]) -> str:
    """How a message goes on behind an unknown name: with the nearest of those that are known, where one is near."""
    near = difflib.get_close_matches(name, known, 1)
    return f", did you mean '{near[0]}'?" if near else ""


def _words(problem: Any, model: type[BaseModel]) -> str:
    """One of pydantic's errors: where, and what was expected."""
    place = [str(part) for part in problem["loc"]]
    path = ".".join(place)
    if problem["type"] == "extra_forbidden":
        known = _keys(place[:-1], model)
        return f"{path}: unknown key{nearest(place[-1], known)}: expected one of {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{path}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not path:
        return message
    value = problem["input"]
    shown = "" if isinstance(value, dict | list) else f", got {shown_value(value)}"
    return f"{path}: {message}{shown}"


def _keys(place: Sequence[str], model: type[BaseModel]) -> list[str]:
    """The keys of the section at `place`."""
    from pydantic import BaseModel

    section = model
    for name in place:
        hint = section.model_fields[name].annotation
        kinds = [
            kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        section = kinds[0]
    return list(section.model_fields)
