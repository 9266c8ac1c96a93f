"""Two audits side by side: what drifted, on the same photos where they are the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.map_columns import MAP_COLUMNS
from ...runtime.profile import Profile, Usual, read_profile
from .errors import AuditError
from .findings import FINDINGS
from .parts import iter_rows
from .plan import read_plan
from .row import FIGURES

__all__ = ["COMPARED", "SCHEMA", "compare_folders", "compare_profile", "compare_rows"]

#: Name and version of the document.
SCHEMA = "cfcam.audit-compare/1"

#: Columns whose drift is tested.
COMPARED = (
    "probability",
    "margin",
    *MAP_COLUMNS,
    "energy_inside",
    "class_sensitivity",
    "noise_agreement",
    "drop_without",
    "keep_only",
    "without_object",
)
#: Photos on each side that a test needs: with fewer, no difference would be small enough a chance.
LEAST = 10
#: Corrected p-values below it are called drift.
_LEVEL = 0.05

Row = Mapping[str, Any]


def compare_folders(a: Path, b: Path) -> dict[str, Any]:
    """What differs between two audits on disk, or between a reference profile and an audit.

    Args:
        a: Folder of an audit, or file of a reference profile.
        b: Folder of an audit.

    Returns:
        As `compare_rows`, with ``differences``, (name, a, b) of what the two plans do differently, and ``drift``, the
        names of what drifted.

    Raises:
        AuditError: One of them is no audit, or has no photo without an error.
        ProfileError: The file is no reference profile.
    """
    plan, rows = read_plan(b / "plan.json"), iter_rows(b / "parts", FIGURES)
    if a.is_dir():
        other = read_plan(a / "plan.json")
        found = compare_rows(iter_rows(a / "parts", FIGURES), rows)
        names = [name for name in (*other.differences(plan), "rungs") if getattr(other, name) != getattr(plan, name)]
        names = [name for name in names if not name.startswith("against_")]  # of which no row depends
        differences = [(name, getattr(other, name), getattr(plan, name)) for name in names]
        libraries = sorted({*other.versions, *plan.versions})
        pairs = [(f"version of {name}", other.versions.get(name), plan.versions.get(name)) for name in libraries]
        differences += [(name, one, two) for name, one, two in pairs if one != two]
    else:
        profile = read_profile(a)
        found = compare_profile(profile, rows)
        differences = [
            (name, getattr(profile, name), getattr(plan, name))
            for name in ("model_sha256", "method")
            if getattr(profile, name) != getattr(plan, name)
        ]
    drift = [entry["name"] for entry in (*found["columns"], *found["findings"]) if entry["drift"]]
    return {**found, "differences": differences, "drift": drift}


def compare_rows(a: Iterable[Row], b: Iterable[Row]) -> dict[str, Any]:
    """What differs between two audits.

    Args:
        a: Rows of the first audit. Photos with errors are left out, photos of one content are counted once.
        b: Rows of the second one.

    Returns:
        ``photos`` (``a``, ``b``, ``same`` contents); ``paired``, whether the photos with the same content are compared
        with each other, which is so where they are at least half of the smaller audit; ``columns`` and ``findings``,
        one entry each with ``name``, means or rates ``a`` and ``b``, the counts ``count_a`` and ``count_b``, a p-value
        corrected for all of both by Holm's method, and ``drift``; ``labels_changed`` of paired photos, None else.
        Columns are tested by Wilcoxon's signed ranks where paired, by Kolmogorov's and Smirnov's test else; findings by
        McNemar's exact test and by Fisher's. What was not measured on `LEAST` photos of both has no p-value.

    Raises:
        AuditError: An audit has no photo without an error.
    """
    first, second = _known(a), _known(b)
    same = [sha for sha in first if sha in second]
    paired = 2 * len(same) >= min(len(first), len(second))
    if paired:
        sides = [first[sha] for sha in same], [second[sha] for sha in same]
    else:
        sides = list(first.values()), list(second.values())
    columns = [_compared(name, _column(name), sides, paired, _ranks if paired else _distributions) for name in COMPARED]
    findings = [_compared(one.name, one.judge, sides, paired, _changes if paired else _shares) for one in FINDINGS]
    changed = sum(one["target"] != other["target"] for one, other in zip(*sides, strict=True)) if paired else None
    return _judged(
        {
            "schema": SCHEMA,
            "photos": {"a": len(first), "b": len(second), "same": len(same)},
            "paired": paired,
            "labels_changed": changed,
            "columns": columns,
            "findings": findings,
        }
    )


def compare_profile(profile: Profile, rows: Iterable[Row]) -> dict[str, Any]:
    """What differs between a reference profile and an audit.

    Args:
        profile: The first side.
        rows: Of an audit, the second one.

    Returns:
        As `compare_rows` of different photos, with means by Welch's test, for the columns that the profile has; of the
        findings a profile knows nothing.

    Raises:
        AuditError: The audit has no photo without an error.
    """
    known = list(_known(rows).values())
    columns = []
    for name, usual in profile.columns.items():
        values = [value for row in known if (value := _column(name)(row)) is not None]
        y = np.array(values, np.float64)
        columns.append(
            {
                "name": name,
                "a": usual.mean,
                "b": float(y.mean()) if len(y) else None,
                "count_a": usual.count,
                "count_b": len(y),
                "p_value": _means(usual, y) if min(usual.count, len(y)) >= LEAST else None,
            }
        )
    photos = {"a": profile.photos, "b": len(known), "same": 0}
    head = {"schema": SCHEMA, "photos": photos, "paired": False, "labels_changed": None}
    return _judged({**head, "columns": columns, "findings": []})


def _known(rows: Iterable[Row]) -> dict[str, Row]:
    """Rows without an error, by content."""
    found = {row["sha256"]: row for row in rows if not row["error"]}
    if not found:
        raise AuditError("an audit has no photo without an error: there is nothing to compare")
    return found


def _judged(found: dict[str, Any]) -> dict[str, Any]:
    """With p-values corrected for being many, and what they say."""
    from ..statistics import holm

    entries = [*found["columns"], *found["findings"]]
    tested = [entry for entry in entries if entry["p_value"] is not None]
    for entry, corrected in zip(tested, holm([entry["p_value"] for entry in tested]).tolist(), strict=True):
        entry["p_value"] = corrected
    for entry in entries:
        entry["drift"] = entry["p_value"] is not None and entry["p_value"] < _LEVEL
    return found


def _column(name: str) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        found = row[name]
        return None if found is None or not math.isfinite(found) else float(found)

    return value


def _compared(
    name: str,
    value: Callable[[Row], float | None],
    sides: tuple[list[Row], list[Row]],
    paired: bool,
    test: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> dict[str, Any]:
    a, b = ([value(row) for row in rows] for rows in sides)
    if paired:
        known = [pair for pair in zip(a, b, strict=True) if None not in pair]
        a, b = [one for one, _ in known], [other for _, other in known]
    x, y = (np.array([one for one in values if one is not None], np.float64) for values in (a, b))
    return {
        "name": name,
        "a": float(x.mean()) if len(x) else None,
        "b": float(y.mean()) if len(y) else None,
        "count_a": len(x),
        "count_b": len(y),
        "p_value": test(x, y) if min(len(x), len(y)) >= LEAST else None,
    }


def _ranks(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    found: Any = wilcoxon(a, b) if (a != b).any() else None
    return 1.0 if found is None else float(found.pvalue)


def _distributions(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy.stats import ks_2samp

    found: Any = ks_2samp(a, b)
    return float(found.pvalue)


def _means(usual: Usual, values: NDArray[np.float64]) -> float:
    from scipy.stats import ttest_ind_from_stats

    deviation = float(values.std(ddof=1))
    if deviation == usual.deviation == 0:
        return float(values[0] == usual.mean)
    mean = float(values.mean())
    found = ttest_ind_from_stats(
        usual.mean, usual.deviation, usual.count, mean, deviation, len(values), equal_var=False
    )
    return float(found.pvalue)


def _changes(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """McNemar's test: whether photos gained a finding as often as they lost it."""
    from scipy.stats import binomtest

    gained, lost = int((b > a).sum()), int((b < a).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _shares(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy.stats import fisher_exact

    found: Any = fisher_exact([[int(each.sum()), int(len(each) - each.sum())] for each in (a, b)])
    return float(found.pvalue)
