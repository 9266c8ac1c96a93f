"""Reference profiles from an audit's rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.map_columns import MAP_COLUMNS
from ...runtime.profile import Profile, ProfileError, Usual, read_profile, to_document, write_profile

__all__ = ["LEAST", "PROFILED", "Profile", "make_profile", "read_profile", "to_document", "write_profile"]

#: Columns that a profile has, where they were measured.
PROFILED = ("probability", "margin", *MAP_COLUMNS, "class_sensitivity", "noise_agreement", "drop_without", "keep_only")
#: Photos that a column needs: with fewer, the tails say nothing.
LEAST = 50

#: Share of the photos beyond each of the two quantiles that scales are measured at, and how many standard deviations
#: from the centre a normal distribution has them: up to that share of faulty photos does not widen the profile.
_TAIL, _DEVIATIONS = 0.025, 1.959963984540054
#: No scale is smaller: all columns are fractions, and a hundredth of the range is never worth an alarm by itself.
_SMALLEST = 0.01


def make_profile(rows: Iterable[Mapping[str, Any]], model_sha256: str, method: str) -> Profile:
    """What is usual in an audit.

    Args:
        rows: Of the audit; those with errors and second photos of one content are left out.
        model_sha256: Of the audited file.
        method: Of the maps.

    Returns:
        For each column of `PROFILED` that was measured on at least `LEAST` photos its median, and a scale towards each
        side: how far the 2.5 % of the photos that lie farthest out on that side begin, over 1.96, and at least 0.01.

    Raises:
        ProfileError: No column was measured on enough photos.
    """
    each = {row["sha256"]: row for row in rows if not row["error"]}.values()
    columns = {}
    for name in PROFILED:
        values = np.array([row[name] for row in each if row[name] is not None and math.isfinite(row[name])], np.float64)
        if len(values) >= LEAST:
            columns[name] = _usual(values)
    if not columns:
        raise ProfileError(
            f"a profile needs at least {LEAST} different photos, better a thousand, and the audit has {len(each)}: "
            "audit more photos"
        )
    empty = [bool(row["empty"]) for row in each if row["empty"] is not None]
    return Profile(model_sha256, method, len(each), float(np.mean(empty)) if empty else 0.0, columns)


def _usual(values: NDArray[np.float64]) -> Usual:
    low, centre, high = np.quantile(values, [_TAIL, 0.5, 1 - _TAIL]).tolist()
    return Usual(
        count=len(values),
        centre=centre,
        below=max((centre - low) / _DEVIATIONS, _SMALLEST),
        above=max((high - centre) / _DEVIATIONS, _SMALLEST),
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)),
    )
