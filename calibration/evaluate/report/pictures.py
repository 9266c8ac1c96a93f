"""Maps to look at: the best and worst photos of every method, and a contact sheet of photos and methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....runtime.errors import ArrayError, CfcamError
from ....runtime.explainer import Explainer
from ....runtime.photos.drawing import side_by_side
from ...html_page import jpeg_url, save_picture
from ..results import Evaluation, Measured

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Case", "contact_sheet", "deciding_column", "pick_cases", "save_sheet"]

#: The first of them that was measured decides which photos are a method's best and worst.
_DECIDING = ("insertion_deletion", "adcc", "pixel_precision")
_SIDE = 320


@dataclass(frozen=True)
class Case:
    """One photo under one method. value: of the deciding column. data: its overlay, as a ``data:`` URL of a JPEG."""

    method: str
    kind: str
    name: str
    label: str
    probability: float
    value: float
    data: str


def deciding_column(evaluation: Evaluation) -> str | None:
    """The column by which photos are called best or worst, or None when nothing was measured on photos."""
    photos = [one.values for one in evaluation.photos if one.unit == "photo"]
    known = [
        name for place, name in enumerate(evaluation.columns) if any(np.isfinite(one[:, place]).any() for one in photos)
    ]
    return next((name for name in (*_DECIDING, *known) if name in known), None)


def pick_cases(explainer: Explainer, evaluation: Evaluation, *, each: int = 2) -> list[Case]:
    """The `each` best and worst photos of every method, explained once more; photos that are gone are left out."""
    column = deciding_column(evaluation)
    if column is None:
        return []
    sign = -1 if evaluation.columns[column].better == "higher" else 1
    cases = []
    for method in evaluation.methods:
        values = evaluation.values(method, column)
        order = [int(i) for i in np.argsort(sign * values, kind="stable") if not np.isnan(values[i])]
        order = [i for i in order if evaluation.photos[i].unit == "photo"]
        best = order[: min(each, (len(order) + 1) // 2)]
        worst = order[len(best) :][-each:][::-1]
        for kind, indices in (("best", best), ("worst", worst)):
            for i in indices:
                photo = evaluation.photos[i]
                try:
                    found = explainer.explain(photo.name, photo.target, method)
                except CfcamError:
                    continue
                cases.append(
                    Case(
                        method,
                        kind,
                        photo.name,
                        _class(found.label, photo.target),
                        photo.probability,
                        float(values[i]),
                        jpeg_url(found.overlay(_SIDE, legend=False)),
                    )
                )
    return cases


def contact_sheet(
    explainer: Explainer, photos: Sequence[Measured], methods: Sequence[str], *, cell_width: int = 220
) -> Image.Image:
    """A row per photo, the photo first, then a column per method, all for the class that was measured.

    Raises `ArrayError` without photos, and what `Explainer.explain` raises.
    """
    if not photos or not methods:
        raise ArrayError("contact sheet: expected at least one photo and one method")
    cells, rows = [], []
    for photo in photos:
        found = [explainer.explain(photo.name, photo.target, method) for method in methods]
        width, height = found[0].frame.view_size(2 * cell_width)
        cells.append(
            [found[0].photo.resize((width, height)), *(one.overlay(2 * cell_width, legend=False) for one in found)]
        )
        rows.append(f"{Path(photo.name).name}: {_class(found[0].label, photo.target)}, {photo.probability:.1%}")
    return side_by_side(cells, columns=["photo", *methods], rows=rows, cell_width=cell_width)


def save_sheet(path: str | Path, explainer: Explainer, evaluation: Evaluation, *, most: int = 12) -> None:
    """Write a contact sheet of at most `most` photos, spread evenly over all, as PNG or JPEG. Raises `OutputError`."""
    photos = [one for one in evaluation.photos if one.unit == "photo"]
    places = np.unique(np.linspace(0, len(photos) - 1, min(most, len(photos))).round().astype(int))
    save_picture(path, contact_sheet(explainer, [photos[i] for i in places], evaluation.methods))


def _class(label: str, index: int) -> str:
    return f"class {index}" if label == str(index) else f"{label} ({index})"
