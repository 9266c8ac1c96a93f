"""The tables of the guided form: figures with 95 % intervals over photos, and differences to the default."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from cfcam.calibration.statistics import TooFewPhotosError, mean_interval, paired_difference
from guided_rows import GUIDED

__all__ = ["report"]

MEASURES = ("pixel_ap", "mosaic_ap", "ins_del", "own_other", "own_rank", "noise", "second")

#: Row -> measure -> photo number -> figure.
Table = dict[str, dict[str, dict[int, float]]]


def report(
    each: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], rows: Sequence[str], bases: Sequence[str]
) -> str:
    """Markdown: all networks together, then the means of each.

    each: network -> figures by photo. bases: the rows that the others are subtracted from, a table for each.
    """
    table = _joined(list(each.values()), rows)
    parts = [f"Networks: {', '.join(each)}. Photos: {_counts(table)}.", _figures(table)]
    parts += [_differences(table, base) for base in bases]
    for network, figures in each.items():
        parts.append(f"{network}:\n\n{_means(_joined([figures], rows))}")
    return "\n\n".join(parts) + "\n"


def _joined(each: Sequence[Sequence[Mapping[str, Mapping[str, float]]]], rows: Sequence[str]) -> Table:
    """The mean over networks, photo by photo: the photo is the unit."""
    several: dict[tuple[str, str, int], list[float]] = {}
    for figures in each:
        for number, found in enumerate(figures):
            for row, values in found.items():
                for name, value in values.items():
                    if not math.isnan(value):
                        several.setdefault((row, name, number), []).append(value)
    table: Table = {row: {name: {} for name in MEASURES} for row in rows}
    for (row, name, number), values in several.items():
        table[row][name][number] = float(np.mean(values))
    return table


def _counts(table: Table) -> str:
    return ", ".join(f"{len(table[GUIDED][name])} ({name})" for name in MEASURES if table[GUIDED][name])


def _grid(head: str, cell: Callable[[str, str], str], rows: Sequence[str], measures: Sequence[str]) -> str:
    lines = [f"| {head} | " + " | ".join(measures) + " |", "|---" * (1 + len(measures)) + "|"]
    return "\n".join([*lines, *(f"| {row} | " + " | ".join(cell(row, one) for one in measures) + " |" for row in rows)])


def _measures(table: Table) -> list[str]:
    return [name for name in MEASURES if table[GUIDED][name]]


def _figures(table: Table) -> str:
    def cell(row: str, name: str) -> str:
        values = list(table[row][name].values())
        if not values:
            return ""
        found = mean_interval(values)
        return f"{_short(found.mean)} [{_short(found.low)}, {_short(found.high)}]"

    return _grid("row", cell, list(table), _measures(table))


def _means(table: Table) -> str:
    def cell(row: str, name: str) -> str:
        values = list(table[row][name].values())
        return _short(float(np.mean(values))) if values else ""

    return _grid("row", cell, list(table), _measures(table))


def _differences(table: Table, base: str) -> str:
    def cell(row: str, name: str) -> str:
        ours, theirs = table[base][name], table[row][name]
        both = sorted(set(ours) & set(theirs))
        if not both:
            return ""
        try:
            found = paired_difference([ours[one] for one in both], [theirs[one] for one in both])
        except TooFewPhotosError:
            return f"too few photos ({len(both)})"
        text = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        text = re.sub(r"(?<!\d)0\.", ".", text)
        return f"**{text}**" if found.low > 0 or found.high < 0 else text

    return _grid(f"{base} less …", cell, [row for row in table if row != base], _measures(table))


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
