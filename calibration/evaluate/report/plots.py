"""Numbers for the report's plots: where points, intervals and ticks go. The template draws them as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..results import Evaluation
from ..table import Table

__all__ = ["Mark", "Plot", "make_plot"]

_LEFT, _WIDTH, _LINE, _TOP = 130, 430, 20, 8


@dataclass(frozen=True)
class Mark:
    """One row: its label, height y, the point x and the interval's ends (None without one), in pixels."""

    label: str
    baseline: bool
    y: float
    x: float
    low: float | None
    high: float | None
    words: str


@dataclass(frozen=True)
class Plot:
    """One column of the table. reference: x of the reference's mean, or None. ticks: (x, text)."""

    column: str
    width: int
    height: int
    axis: float
    left: float
    right: float
    reference: float | None
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]


def make_plot(evaluation: Evaluation, table: Table, column: str) -> Plot | None:
    """Means and intervals of every row in `column`, or None when it has no value at all."""
    rows = [(row, table.cells[row][column]) for row in evaluation.rows if table.cells[row][column].count]
    if not rows:
        return None
    ends = [value for _, cell in rows for value in (cell.mean, cell.low, cell.high) if value is not None]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.05 or max(abs(high) * 0.05, 0.01)
    low, high = low - room, high + room

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * _WIDTH, 1)

    marks = []
    for number, (row, cell) in enumerate(rows):
        between = "" if cell.low is None else f" [{cell.low:.3f}, {cell.high:.3f}]"
        marks.append(
            Mark(
                label=row,
                baseline=row in evaluation.baselines,
                y=_TOP + _LINE * (number + 0.5),
                x=x(cell.mean),
                low=None if cell.low is None else x(cell.low),
                high=None if cell.high is None else x(cell.high),
                words=f"{row}: {cell.mean:.3f}{between}, {cell.count}",
            )
        )
    axis = _TOP + _LINE * len(rows) + 4
    reference = table.cells[table.reference][column]
    return Plot(
        column=column,
        width=_LEFT + _WIDTH + 20,
        height=axis + 24,
        axis=axis,
        left=_LEFT,
        right=_LEFT + _WIDTH,
        reference=x(reference.mean) if reference.count else None,
        marks=tuple(marks),
        ticks=tuple((x(value), f"{value:.{digits}f}") for value, digits in _ticks(low, high)),
    )


def _ticks(low: float, high: float) -> list[tuple[float, int]]:
    """About five round values from low to high, and the decimals that they need."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step)
    return [(number * step, digits) for number in range(first, math.floor(high / step) + 1)]
