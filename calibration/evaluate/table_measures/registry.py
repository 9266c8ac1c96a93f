"""The measures by name: what each costs, what its columns reward, and how one photo is measured.

A measure here looks at one photo with all rows of the table at once, so that they can share inferences; it is made of
`cfcam.calibration.measures`, which know nothing of tables. Those that come with cfcam stand beside this module; others
are added with `register_measure` before a plan is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ....runtime.contract.spec import InputSpec
from ....runtime.errors import CfcamError
from ..rows import Row
from ..shared import SharedEngine

__all__ = ["Column", "Context", "Sample", "TableMeasure", "all_measures", "get_measure", "register_measure"]


@dataclass(frozen=True)
class Column:
    """better: which way is. rewards: what a good value rewards and is gamed by, in a sentence or two."""

    better: Literal["higher", "lower"]
    rewards: str


@dataclass(eq=False)
class Sample:
    """One photo. image float32 (C, H, W); probabilities (K,); target: the explained class.

    other: the best of the other classes, or None where there is none. region: bool (H, W) where the
    object is, or None where nothing is known. seed: of this photo. maps: name of the row -> (H, W) in [0, 1].
    """

    name: str
    image: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    target: int
    other: int | None
    region: NDArray[np.bool_] | None
    seed: int
    maps: dict[str, NDArray[np.floating[Any]]]

    def stacked(self, rows: Sequence[Row]) -> NDArray[np.floating[Any]]:
        """Maps (R, H, W) of `rows`."""
        return np.stack([self.maps[row.name] for row in rows])


@dataclass(frozen=True)
class Context:
    """What measures may use: the network, how images were preprocessed, and the steps of curves."""

    engine: SharedEngine
    input: InputSpec
    steps: int


#: Column -> a value for each of R rows, NaN where it is undefined for a row.
Values = Mapping[str, ArrayLike]
#: Photo, R rows and context -> `Values`.
Run = Callable[[Sample, Sequence[Row], Context], Values]


@dataclass(frozen=True)
class TableMeasure:
    """Columns that are measured together.

    cheap: measured when nothing else was asked for. unit: ``photo``, or ``mosaic`` for columns that are
    measured on mosaics of four photos (the sample's `region` is then the cell of its target, and
    `run` is called for every cell).
    """

    name: str
    columns: Mapping[str, Column]
    run: Run
    cheap: bool
    summary: str
    unit: Literal["photo", "mosaic"] = "photo"


class UnknownMeasureError(CfcamError, ValueError):
    """A measure that is not registered."""


_MEASURES: dict[str, TableMeasure] = {}


def register_measure(measure: TableMeasure) -> None:
    """Make `measure` known by its name. Raises `UnknownMeasureError` when a column is taken already."""
    taken = {column for other in all_measures() if other.name != measure.name for column in other.columns}
    double = taken & set(measure.columns)
    if double:
        raise UnknownMeasureError(f"measure '{measure.name}': another one has the columns {sorted(double)}")
    _MEASURES[measure.name] = measure


def all_measures() -> list[TableMeasure]:
    """All that are registered, in order."""
    return list(_MEASURES.values())


def get_measure(name: str) -> TableMeasure:
    """Look `name` up. Raises `UnknownMeasureError`."""
    if name not in _MEASURES:
        raise UnknownMeasureError(f"unknown measure '{name}': expected some of {', '.join(_MEASURES)}, or 'all'")
    return _MEASURES[name]
