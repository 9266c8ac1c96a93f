"""From values per photo to what can be said: means, intervals, and differences from the first method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..json_values import plain
from ..statistics import TooFewPhotosError, holm, mean_interval, paired_difference, photos_needed
from .results import Evaluation
from .rows import CONTROLS

__all__ = ["Cell", "Comparison", "Table", "make_table"]


@dataclass(frozen=True)
class Cell:
    """mean over `count` photos, NaN where there are none. low, high: its interval, or None for too few photos."""

    mean: float
    count: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Comparison:
    """`row` less the reference in one column, over the photos where both are defined.

    p: corrected by Holm over the whole table. shown: the interval excludes zero and p is below 1 - level.
    better: whether the difference is for the row.
    """

    row: str
    column: str
    mean: float
    low: float
    high: float
    count: int
    p: float
    shown: bool
    better: bool


@dataclass(frozen=True)
class Table:
    """cells: row -> column -> `Cell`. best: column -> the methods (no baselines) with the best mean.

    comparisons: with `reference`, all that had enough photos. notes: what must be said beside the figures.
    """

    reference: str
    level: float
    cells: Mapping[str, Mapping[str, Cell]]
    best: Mapping[str, tuple[str, ...]]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; NaN becomes None."""
        return plain(asdict(self))


def make_table(evaluation: Evaluation, *, reference: str | None = None, level: float = 0.95, seed: int = 0) -> Table:
    """Means with bootstrap intervals over photos, and paired differences of every row from `reference`.

    reference: a row, None for the first method. With too few photos there are means alone, and a note
    says how many are needed.
    """
    first = reference or evaluation.rows[0]
    cells = {
        row: {column: _cell(evaluation, row, column, level, seed) for column in evaluation.columns}
        for row in evaluation.rows
    }
    best: dict[str, tuple[str, ...]] = {}
    beaten: dict[str, list[str]] = {"baseline": [], "control": []}
    for column, about in evaluation.columns.items():
        known = {row: cells[row][column].mean for row in evaluation.rows if cells[row][column].count}
        pick = max if about.better == "higher" else min
        of_methods = [row for row in evaluation.methods if row in known]
        if of_methods:
            top = pick(known[row] for row in of_methods)
            # Methods that are equal on a layer differ in the last bits.
            best[column] = tuple(row for row in of_methods if math.isclose(known[row], top, rel_tol=1e-5))
            winner = pick(known, key=known.__getitem__)
            if winner not in evaluation.methods and not math.isclose(known[winner], top, rel_tol=1e-5):
                beaten["control" if winner in CONTROLS else "baseline"].append(f"{column} ({winner})")
    comparisons, notes = _comparisons(evaluation, first, level, seed)
    notes = _few(cells, level) + notes
    if beaten["baseline"]:
        names = ", ".join(beaten["baseline"])
        notes.append(f"a baseline has the best mean in {names}: such a figure alone shows nothing")
    if beaten["control"]:
        names = ", ".join(beaten["control"])
        notes.append(f"{first} changed by a control is best in {names}: no method was needed for that")
    return Table(first, level, cells, best, comparisons, tuple(notes))


def _cell(evaluation: Evaluation, row: str, column: str, level: float, seed: int) -> Cell:
    values = evaluation.values(row, column)
    known = values[~np.isnan(values)]
    if not len(known):
        return Cell(math.nan, 0)
    try:
        found = mean_interval(known, level=level, seed=seed)
    except TooFewPhotosError:
        return Cell(float(known.mean()), len(known))
    return Cell(found.mean, found.count, found.low, found.high)


def _few(cells: Mapping[str, Mapping[str, Cell]], level: float) -> list[str]:
    """A note for every number of photos that is too small, with its columns."""
    columns: dict[int, dict[str, None]] = {}
    for row in cells.values():
        for column, cell in row.items():
            if cell.count and cell.low is None:
                columns.setdefault(cell.count, {})[column] = None
    needed = photos_needed(level)
    return [
        f"{count} photos or mosaics are too few for an interval, at least {needed} are needed: {', '.join(names)}"
        for count, names in columns.items()
    ]


def _comparisons(
    evaluation: Evaluation, first: str, level: float, seed: int
) -> tuple[tuple[Comparison, ...], list[str]]:
    pairs = []
    for row in evaluation.rows:
        for column in evaluation.columns:
            a, b = evaluation.values(row, column), evaluation.values(first, column)
            both = ~(np.isnan(a) | np.isnan(b))
            if row != first and both.any():
                pairs.append((row, column, a[both], b[both]))
    found, few = [], set()
    # The smallest p-value that so many sign patterns can give must survive the correction.
    resamples = max(5000, 100 * len(pairs))
    for row, column, a, b in pairs:
        try:
            difference = paired_difference(a, b, level=level, comparisons=len(pairs), seed=seed, resamples=resamples)
        except TooFewPhotosError:
            few.add(len(a))
        else:
            found.append((row, column, difference))
    corrected = holm([difference.p_value for _, _, difference in found])
    comparisons = tuple(
        Comparison(
            row,
            column,
            difference.mean,
            difference.low,
            difference.high,
            difference.count,
            float(p),
            difference.shown and bool(p < 1 - level),
            (difference.mean > 0) == (evaluation.columns[column].better == "higher"),
        )
        for (row, column, difference), p in zip(found, corrected, strict=True)
    )
    needed = photos_needed(level, max(1, len(pairs)))
    return comparisons, [
        f"{count} photos or mosaics are too few for differences in {len(pairs)} comparisons, {needed} are needed"
        for count in sorted(few)
    ]
