"""What an evaluation measured: a value per photo, row and column; as objects and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import ArrayError
from ...runtime.methods.layer_fusion import FileForm
from ..json_values import plain
from .table_measures.registry import Column

__all__ = ["SCHEMA", "Evaluation", "Measured", "stack_columns"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.evaluate/2"
#: Written before: the comparisons of its table, which nobody reads back, said ``contender`` for ``row``.
_OLDER = ("cfcam.evaluate/1",)


@dataclass(frozen=True, eq=False)
class Measured:
    """One photo, or one mosaic. top: the class that the model ranks first.

    probability: of `target`. values: float64 (R, columns), NaN where undefined. ms: float64 (R,), the
    milliseconds of one map: inference, method and resize.
    """

    name: str
    target: int
    top: int
    probability: float
    values: NDArray[np.float64]
    ms: NDArray[np.float64]
    unit: Literal["photo", "mosaic"] = "photo"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; NaN becomes None."""
        return {
            "name": self.name,
            "unit": self.unit,
            "target": self.target,
            "top": self.top,
            "probability": self.probability,
            "values": plain(self.values.tolist()),
            "ms": plain(self.ms.tolist()),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measured:
        """Raises `KeyError`, `TypeError` or `ValueError` for something else."""
        return cls(
            name=data["name"],
            unit=data["unit"],
            target=int(data["target"]),
            top=int(data["top"]),
            probability=float(data["probability"]),
            # None becomes NaN.
            values=np.array(data["values"], np.float64),
            ms=np.array(data["ms"], np.float64),
        )


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured.

    methods, baselines: names of the rows, in order; the first method is the reference. columns: of the table.
    groups: measure -> its columns. photos: photos and mosaics. failures: images that could not be
    measured. warnings: what a reader must know. plan, model: as plain values. resumed: photos that a
    journal had already.
    """

    methods: tuple[str, ...]
    baselines: tuple[str, ...]
    columns: Mapping[str, Column]
    groups: Mapping[str, tuple[str, ...]]
    photos: tuple[Measured, ...]
    failures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    resumed: int = 0

    @property
    def rows(self) -> tuple[str, ...]:
        return self.methods + self.baselines

    def values(self, row: str, column: str) -> NDArray[np.float64]:
        """float64 (n,): a value per photo or mosaic, NaN where it is undefined, in one order for all rows."""
        index, place = self.rows.index(row), list(self.columns).index(column)
        return np.array([one.values[index, place] for one in self.photos], np.float64)

    def ms(self, row: str) -> float:
        """Median milliseconds of a map; NaN without photos."""
        index = self.rows.index(row)
        each = [one.ms[index] for one in self.photos if one.unit == "photo"]
        return float(np.median(each)) if each else math.nan

    @property
    def forms(self) -> list[str]:
        """A sentence for every method whose maps can have several forms: which one they have here."""
        forms = self.model.get("forms", {})  # documents of before have none
        return [f"{name}: {FileForm(detail=one['detail'], contrast=one['contrast'])}" for name, one in forms.items()]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "schema": SCHEMA,
            "model": dict(self.model),
            "plan": dict(self.plan),
            "methods": list(self.methods),
            "baselines": list(self.baselines),
            "columns": {n: {"better": f.better, "rewards": f.rewards} for n, f in self.columns.items()},
            "groups": {name: list(columns) for name, columns in self.groups.items()},
            "photos": [one.to_dict() for one in self.photos],
            "resumed": self.resumed,
            "warnings": list(self.warnings),
            "errors": list(self.failures),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """From what `to_dict` gave. Raises `ArrayError` for another schema or something that does not fit."""
        if data.get("schema") not in (SCHEMA, *_OLDER):
            raise ArrayError(f"evaluation: expected the schema '{SCHEMA}', got {data.get('schema')!r}")
        try:
            return cls(
                methods=tuple(data["methods"]),
                baselines=tuple(data["baselines"]),
                columns={n: Column(f["better"], f["rewards"]) for n, f in data["columns"].items()},
                groups={name: tuple(columns) for name, columns in data["groups"].items()},
                photos=tuple(Measured.from_dict(one) for one in data["photos"]),
                failures=tuple(data["errors"]),
                warnings=tuple(data["warnings"]),
                plan=data["plan"],
                model=data["model"],
                resumed=data["resumed"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArrayError(f"evaluation: does not hold what it should ({type(error).__name__}: {error})") from error


def stack_columns(columns: Sequence[str], measured: Mapping[str, Any], rows: int) -> NDArray[np.float64]:
    """float64 (R, columns) from column -> R values; NaN for columns that are not there."""
    values = np.full((rows, len(columns)), math.nan)
    for place, name in enumerate(columns):
        if name in measured:
            values[:, place] = np.asarray(measured[name], np.float64)
    return values
