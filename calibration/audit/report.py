"""``report.html``: an audit on one page that loads nothing, with the worst and a random sample of photos."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.cam import normalise
from ...runtime.contract.spec import InputSpec
from ...runtime.errors import CfcamError
from ...runtime.photos.drawing import heat_picture
from ...runtime.photos.preprocess import prepare
from ..html_page import jpeg_url, machine, page_template
from .against import PAGE, table_rows
from .findings import FINDINGS
from .row import Row
from .sources import Photo

__all__ = ["MOST_BYTES", "pick_cases", "render_report"]

#: Of the page; pictures are left out when it would be more.
MOST_BYTES = 1_000_000
#: What everything but the pictures may take.
_TEXT_BYTES = 250_000
#: Photos of each sample, pixels of their longer side, and lines of the table of slices.
_SAMPLE, _SIDE, _SLICES = 12, 240, 60


def pick_cases(rows: Iterable[Row], seed: int = 0) -> tuple[list[Row], list[Row]]:
    """The photos that a page shows. The same rows give the same ones, in whatever order they come.

    Args:
        rows: Of the audit; they are read once.
        seed: Of the random sample.

    Returns:
        Up to 12 photos with most findings, and up to 12 that chance has picked.
    """
    worst: list[tuple[int, str, Row]] = []
    others: list[tuple[bytes, str, Row]] = []
    for row in rows:
        if row["error"]:
            continue
        image = row["image"]
        if row["findings"]:
            worst.append((-len(row["findings"]), image, row))
        others.append((hashlib.sha256(f"{seed} {image}".encode(errors="replace")).digest(), image, row))
        if len(others) >= 100 * _SAMPLE:
            worst, others = heapq.nsmallest(_SAMPLE, worst), heapq.nsmallest(_SAMPLE, others)
    return (
        [row for *_, row in heapq.nsmallest(_SAMPLE, worst)],
        [row for *_, row in heapq.nsmallest(_SAMPLE, others)],
    )


def render_report(
    summary: Mapping[str, Any],
    worst: Sequence[Row],
    others: Sequence[Row],
    view: InputSpec,
    photos: Mapping[str, Photo] | None = None,
) -> str:
    """The page's text. Every name in it is escaped.

    Args:
        summary: ``summary.json``.
        worst: Rows of the photos with most findings.
        others: Rows of a random sample.
        view: The model's input, which says where a map lies on its photo.
        photos: Name -> photo; None for files of these names.

    Returns:
        HTML of at most `MOST_BYTES`.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    room = [MOST_BYTES - _TEXT_BYTES]
    slices = [one for one in summary["slices"] if one["of"]]
    slices.sort(key=lambda one: (one["p_value"] if one["p_value"] is not None else 2.0, -one["rate"]))
    return page_template(__package__ or "", percent=_percent).render(
        summary=summary,
        findings=FINDINGS,
        slices=slices[:_SLICES],
        more_slices=max(0, len(slices) - _SLICES),
        against=summary["against"],
        against_rows=table_rows((summary["against"] or {}).get("report")),
        against_page=PAGE,
        missed=[one for one in summary["limits"] if not one["met"]],
        samples=[
            ("Most findings", list(_cases(worst, view, room, photos))),
            ("A random sample", list(_cases(others, view, room, photos))),
        ],
        about=machine(),
    )


def _cases(
    rows: Sequence[Row], view: InputSpec, room: list[int], photos: Mapping[str, Photo] | None
) -> Iterator[dict[str, Any]]:
    """Rows with their photo and its overlay; without, where the photo is gone or the page is full."""
    for row in rows:
        name = row["image"]
        photo = Photo.of_file(Path(name)) if photos is None else photos.get(name)
        try:
            pictures = [] if photo is None else _pictures(row, view, photo)
        except CfcamError:
            pictures = []
        size = sum(map(len, pictures))
        if size > room[0]:
            return
        room[0] -= size
        yield {"row": row, "pictures": pictures}


def _pictures(row: Row, view: InputSpec, photo: Photo) -> list[str]:
    with photo.opened() as image:
        prepared = prepare(image, view)
    frame = prepared.frame
    small = prepared.photo.resize(frame.view_size(_SIDE))
    if not row["grid"]:
        return [jpeg_url(small)]
    grid = np.array(row["grid"], np.float32).reshape(row["grid_height"], row["grid_width"])
    heat = frame.place(normalise(grid, (view.height, view.width)), size=small.size)
    return [jpeg_url(small), jpeg_url(heat_picture(small, heat))]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
