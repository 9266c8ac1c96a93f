"""A reference profile: what is usual for the columns of an audit, by which an unusual photo is known."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import ArrayError, CfcamError
from .files import write_bytes
from .json_reader import read_json
from .shown import shown, shown_value

__all__ = ["SCHEMA", "Profile", "ProfileError", "Usual", "read_profile", "to_document", "write_profile"]

#: Name and version of the file.
SCHEMA = "cfcam.audit-profile/1"


class ProfileError(CfcamError):
    """A reference profile that cannot be read, or that is of something else than what it is compared with."""


@dataclass(frozen=True)
class Usual:
    """What is usual for one column.

    Attributes:
        count: Photos on which it was measured.
        centre: Their median.
        below: One robust standard deviation towards smaller values, more than 0.
        above: The same towards larger ones: a probability near 1 has room on one side only.
        mean: Of all of them.
        deviation: Their standard deviation.
    """

    count: int
    centre: float
    below: float
    above: float
    mean: float
    deviation: float

    def distance(self, value: float) -> float:
        """How many robust standard deviations `value` lies from the centre."""
        return (value - self.centre) / self.above if value >= self.centre else (self.centre - value) / self.below


@dataclass(frozen=True)
class Profile:
    """What is usual for an audit's columns.

    Attributes:
        model_sha256: Of the file that made the maps.
        method: That made them.
        photos: How many the profile was made of.
        empty: The share of them without a map.
        columns: Name -> what is usual.
    """

    model_sha256: str
    method: str
    photos: int
    empty: float
    columns: Mapping[str, Usual]

    def distance(self, columns: Mapping[str, float | None]) -> tuple[float, str]:
        """How unusual a photo is: the distance of its most unusual column.

        Args:
            columns: Name -> value; those that the profile does not have, None and NaN are passed over.

        Returns:
            The distance in robust standard deviations, at least 0, and the column's name.

        Raises:
            ArrayError: None of the profile's columns is among them.
        """
        farthest, name = -1.0, ""
        for column, usual in self.columns.items():
            value = columns.get(column)
            if value is not None and (distance := usual.distance(value)) > farthest:  # never of NaN
                farthest, name = distance, column
        if not name:
            raise ArrayError(f"a profile's distance: expected a value of one of {', '.join(self.columns)}")
        return farthest, name


def write_profile(path: str | os.PathLike[str], profile: Profile) -> None:
    """Write a profile as JSON. Raises `OutputError`."""
    write_bytes(path, (json.dumps(to_document(profile), indent=2) + "\n").encode())


def to_document(profile: Profile) -> dict[str, Any]:
    """A profile as JSON takes it."""
    return {"schema": SCHEMA, **asdict(profile)}


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """A profile that `write_profile` wrote, checked.

    Args:
        path: Of the JSON file.

    Returns:
        The profile.

    Raises:
        ProfileError: The file cannot be read or is no such profile.
    """
    data = read_json(path, ProfileError)
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise ProfileError(f"{path}: is no reference profile: make one by `cfcam audit profile` (expected {SCHEMA})")
    _check_names(path, "", data, Profile)
    columns = data["columns"]
    for name in ("model_sha256", "method"):
        _check(path, name, data[name], isinstance(data[name], str))
    _check(path, "photos", data["photos"], type(data["photos"]) is int and data["photos"] > 0)
    _check(path, "empty", data["empty"], _is_number(data["empty"]) and 0 <= data["empty"] <= 1)
    _check(path, "columns", columns, isinstance(columns, dict) and len(columns) > 0)
    return Profile(**{**data, "columns": {name: _usual(path, name, column) for name, column in columns.items()}})


def _usual(path: Any, name: str, column: Any) -> Usual:
    where = f"columns.{shown(name)}"
    _check(path, where, column, isinstance(column, dict))
    _check_names(path, f"{where}.", column, Usual)
    for key, value in column.items():
        positive = key in ("below", "above")
        good = _is_number(value) and (value > 0 if positive else True)
        if key == "count":
            good = type(value) is int and value > 0
        _check(path, f"{where}.{key}", value, good and (key != "deviation" or value >= 0))
    return Usual(**column)


def _check_names(path: Any, where: str, data: dict[str, Any], kind: type) -> None:
    odd = set(data) ^ {field.name for field in fields(kind)}
    if odd:
        names = ", ".join(f"{where}{shown(name)}" for name in sorted(odd))
        raise ProfileError(f"{path}: is no reference profile that this version reads (missing or unknown: {names})")


def _check(path: Any, name: str, value: Any, good: bool) -> None:
    if not good:
        raise ProfileError(f"{path}: {name}: {shown_value(value)} is no value of a reference profile: make it anew")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
