"""The worst photos: the photo, the reference's map, the candidate's, and their difference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...runtime.errors import ArrayError, CfcamError
from ...runtime.photos.drawing import heat_picture, side_by_side
from ..html_page import save_picture
from .comparing import Comparer, PhotoMeasures, Shown
from .likeness import Likeness

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["COLUMNS", "Case", "draw_cases", "save_sheet", "worst_photos"]

COLUMNS = ("photo", "reference", "candidate", "candidate hotter: red, colder: blue")
_SIDE = 320
_HOTTER, _COLDER = (178, 24, 43), (33, 102, 172)


@dataclass(frozen=True, eq=False)
class Case:
    """One photo in one layer. images: as many as `COLUMNS`."""

    name: str
    place: str
    label: str
    likeness: Likeness
    images: tuple[Image.Image, ...]

    @property
    def title(self) -> str:
        one = self.likeness
        moved = ", peak moved" if one.moved else ""
        return (
            f"{Path(self.name).name}: {self.label}, {self.place}: Spearman {one.spearman:.3f}, IoU {one.iou:.2f}{moved}"
        )


def worst_photos(photos: Sequence[PhotoMeasures], place: int, count: int) -> list[PhotoMeasures]:
    """The `count` photos whose maps are least alike in one place, the worst first; none that are equal."""
    known = [one for one in photos if one.places[place].candidate.spearman < 1]
    return sorted(known, key=lambda one: one.places[place].candidate.spearman)[:count]


def draw_cases(
    comparer: Comparer, photos: Sequence[PhotoMeasures], places: Sequence[tuple[int, str]], each: int
) -> tuple[Case, ...]:
    """The `each` worst photos of some places (number, name), explained once more; photos that are gone are left out."""
    cases = []
    for number, name in places:
        for one in worst_photos(photos, number, each):
            try:
                shown = comparer.show(one.index, Path(one.name), number)
            except CfcamError:
                continue
            cases.append(Case(one.name, name, one.label, one.places[number].candidate, _draw(shown)))
    return tuple(cases)


def save_sheet(path: str | os.PathLike[str], cases: Sequence[Case]) -> None:
    """A row per case, as PNG or JPEG. Raises `ArrayError` without cases, `OutputError`."""
    if not cases:
        raise ArrayError("sheet: there is no photo to draw: all maps are equal")
    sheet = side_by_side(
        [one.images for one in cases], columns=COLUMNS, rows=[one.title for one in cases], cell_width=240
    )
    save_picture(path, sheet)


def _draw(shown: Shown) -> tuple[Image.Image, ...]:
    from PIL import Image

    frame = shown.prepared.frame
    size = frame.view_size(_SIDE)
    photo = shown.prepared.photo.resize(size, Image.Resampling.LANCZOS)
    maps = [frame.place(one, size=size) for one in (shown.reference, shown.candidate)]
    return (photo, *(heat_picture(photo, one) for one in maps), _difference(maps[1] - maps[0]))


def _difference(values: NDArray[np.float32]) -> Image.Image:
    """White where the maps agree, red where the candidate is hotter, blue where the reference is; grey where neither
    looked. Full colour is half of the scale and more.
    """
    from PIL import Image

    strength = np.clip(np.abs(np.nan_to_num(values)) / 0.5, 0, 1)[..., None]
    colour = np.where(values[..., None] > 0, _HOTTER, _COLDER)
    pixels = 255 + (colour - 255) * strength
    pixels[np.isnan(values)] = 160
    return Image.fromarray(np.rint(pixels).astype(np.uint8))
