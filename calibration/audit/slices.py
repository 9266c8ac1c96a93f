"""Parts of the data: what is known about each photo, and how often each finding was made in each part."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.errors import CfcamError
from ...runtime.json_reader import read_text
from ...runtime.shown import shown

__all__ = ["COLUMN", "MetadataError", "metadata_of", "read_metadata", "table", "wilson"]

#: The column of a metadata file that names the photo.
COLUMN = "image"

#: The slice of photos that the metadata says nothing about.
_NO_ROW = "(no row)"

#: Bytes of the largest metadata file: some millions of photos.
_MOST_BYTES = 2**30
#: More values than these make no slices: each would have too few photos to say anything about.
_MOST_VALUES = 200


class MetadataError(CfcamError):
    """Metadata that cannot be read, or that does not fit the photos; the message says what to do."""


def read_metadata(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """What is known about each photo.

    Args:
        path: CSV in UTF-8 with a header. The column ``image`` has the photos' file names, or their last folders too
            (``night/01.jpg``) where names come twice; each other column makes slices.

    Returns:
        Name as written, with ``/`` between folders -> the other columns, as text without spaces around it.

    Raises:
        MetadataError: The file cannot be read, has no such column, names a photo twice, or a row is too short or long.
    """
    where = str(Path(path))
    text = read_text(path, MetadataError, most=_MOST_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, dict[str, str]] = {}
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(where, header)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise MetadataError(
                    f"{where}: line {reader.line_num}: has {len(row)} values, expected {len(header)}: one per column"
                )
            values = dict(zip(header, (value.strip() for value in row), strict=True))
            name = values.pop(COLUMN).replace("\\", "/").removeprefix("./")
            if not name:
                raise MetadataError(f"{where}: line {reader.line_num}: names no photo")
            if name in found:
                raise MetadataError(
                    f"{where}: line {reader.line_num}: '{shown(name)}' comes twice: where two photos have one name, "
                    "write their folders too, as in night/01.jpg"
                )
            found[name] = values
    except csv.Error as error:
        raise MetadataError(f"{where}: line {reader.line_num}: not valid CSV ({error})") from error
    if not found:
        raise MetadataError(f"{where}: holds no photos")
    return found


def metadata_of(image: str | os.PathLike[str], metadata: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    """What is known about one photo.

    Args:
        image: Its path.
        metadata: Of `read_metadata`.

    Returns:
        The row whose name is the end of the path, the longest of them; None where there is none.
    """
    parts = os.fspath(image).replace(os.sep, "/").removeprefix("./").split("/")
    for start in range(len(parts)):
        found = metadata.get("/".join(parts[start:]))
        if found is not None:
            return found
    return None


def table(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, level: float = 0.95
) -> list[dict[str, Any]]:
    """How often each finding was made in each slice, and whether the rest of the photos has it as often.

    Args:
        rows: Of an audit; ``slice`` is the photo's metadata as JSON.
        columns: Of the metadata; None for all with two to 200 different values.
        level: Of all intervals together: each has 1 - (1 - level) / number of them (Bonferroni), so that with this
            probability, about, none of them misses.

    Returns:
        One entry per column, value and finding: ``column``, ``value``, ``finding``, ``count``, ``of``, ``rate`` with
        its Wilson interval ``low`` and ``high``, ``rest_rate``, and ``p_value`` of Fisher's exact test of the slice
        against the rest, corrected for all entries by Holm's method. Photos with errors are left out, and photos of
        one content are counted once. Photos without a row in the metadata make the slice ``(no row)``. What could not
        be told on any photo has None for its rates.

    Raises:
        MetadataError: A column is not in the metadata.
    """
    from .findings import FINDINGS

    seen: set[str] = set()
    tallies = defaultdict[tuple[str, str], dict[str, list[int]]](dict)
    totals: dict[str, list[int]] = {one.name: [0, 0] for one in FINDINGS}
    for row in rows:
        if row["error"] or row["sha256"] in seen:
            continue
        seen.add(row["sha256"])
        told = {one.name: answer for one in FINDINGS if (answer := one.judge(row)) is not None}
        _count(totals, told)
        for column, value in json.loads(row["slice"] or "{}").items():
            _count(tallies[column, value], told)
    entries = []
    for column in _columns(tallies, columns):
        slices = {value: tally for (name, value), tally in tallies.items() if name == column}
        unnamed = {name: _without(total, slices.values(), name) for name, total in totals.items()}
        if any(of for _, of in unnamed.values()):
            slices[_NO_ROW] = unnamed
        for value in sorted(slices):
            for name, total in totals.items():
                count, of = slices[value].get(name, (0, 0))
                counts = (count, of, total[0] - count, total[1] - of)
                entries.append(({"column": column, "value": value, "finding": name}, counts))
    return _judged(entries, level)


def wilson(count: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        count: How many have it.
        of: Of how many, at least one.
        level: Of the interval.

    Returns:
        Its lower and its upper end.
    """
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def _judged(entries: Sequence[tuple[dict[str, Any], tuple[int, int, int, int]]], level: float) -> list[dict[str, Any]]:
    """Intervals and p-values, which depend on how many there are."""
    from scipy.stats import fisher_exact

    from ..statistics import holm

    told = sum(1 for _, (_, of, _, _) in entries if of)
    compared = [number for number, (_, (_, of, _, rest)) in enumerate(entries) if of and rest]
    exact: dict[tuple[int, int, int, int], float] = {}
    for number in compared:
        count, of, rest_count, rest = counts = entries[number][1]
        if counts not in exact:  # many are alike, and the exact test is the slow part
            found: Any = fisher_exact([[count, of - count], [rest_count, rest - rest_count]])
            exact[counts] = float(found.pvalue)
    corrected = dict(zip(compared, holm([exact[entries[number][1]] for number in compared]).tolist(), strict=True))
    judged = []
    for number, (entry, (count, of, rest_count, rest)) in enumerate(entries):
        low, high = wilson(count, of, 1 - (1 - level) / told) if of else (None, None)
        judged.append(
            {
                **entry,
                "count": count,
                "of": of,
                "rate": count / of if of else None,
                "low": low,
                "high": high,
                "rest_rate": rest_count / rest if rest else None,
                "p_value": corrected.get(number),
            }
        )
    return judged


def _count(tally: dict[str, list[int]], told: Mapping[str, bool]) -> None:
    """Add one photo: for each finding that could be told, whether the photo has it, and that it could be told."""
    for name, answer in told.items():
        counts = tally.setdefault(name, [0, 0])
        counts[0] += bool(answer)
        counts[1] += 1


def _without(total: Sequence[int], tallies: Iterable[Mapping[str, Sequence[int]]], name: str) -> list[int]:
    """What of a total no slice has."""
    parts = [tally.get(name, (0, 0)) for tally in tallies]
    return [total[place] - sum(part[place] for part in parts) for place in (0, 1)]


def _columns(tallies: Iterable[tuple[str, str]], columns: Sequence[str] | None) -> list[str]:
    values = Counter(column for column, _ in tallies)
    if columns is None:
        return [name for name, count in values.items() if 2 <= count <= _MOST_VALUES]
    for name in columns:
        if name not in values:
            names = ", ".join(values) or "none"
            raise MetadataError(f"'{shown(name)}' is no column of the metadata, which has: {names}")
        if values[name] > _MOST_VALUES:
            raise MetadataError(
                f"'{shown(name)}' has {values[name]} values, and slices are made of at most {_MOST_VALUES}: "
                "group them into fewer"
            )
    return list(columns)


def _check_header(where: str, header: Sequence[str]) -> None:
    if COLUMN not in header:
        names = ", ".join(map(shown, header)) or "nothing"
        raise MetadataError(f"{where}: has no column '{COLUMN}' with the photos' names: its header is {names}")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise MetadataError(f"{where}: the column '{shown(twice)}' comes twice")
    if len(header) == 1:
        raise MetadataError(f"{where}: has no column beside '{COLUMN}': nothing makes a slice")
    if "" in header:
        raise MetadataError(f"{where}: column {header.index('') + 1} has no name")
