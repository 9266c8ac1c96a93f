"""Several maps of one photo side by side, in one picture."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .checks import check_count, check_path
from .errors import ArrayError, OutputError
from .files import write_bytes
from .photos import drawing

if TYPE_CHECKING:
    from PIL import Image

    from .explanation import Explanation

__all__ = ["MOST_MAPS", "save_side_by_side", "side_by_side"]

#: Maps in a picture: more would be a page that nobody can look at.
MOST_MAPS = 100
#: Cells in a row, the photo's own among them.
_ACROSS = 6
_NARROWEST = 240


def side_by_side(explanations: Sequence[Explanation], *, cell_side: int = 400) -> Image.Image:
    """The photo, and the map of each class beside it, with the classes and their probabilities.

    Every map is drawn relative to its own maximum: a class of 1 % looks as hot as one of 90 %.

    Args:
        explanations: Of one photo, at most `MOST_MAPS`, in the order in which they are drawn.
        cell_side: The longer side of each map, in pixels.

    Returns:
        An RGB picture, of six cells in a row.

    Raises:
        ArrayError: No explanations or too many, of several photos, or a `cell_side` that is no number from 32 to 2000.
    """
    from PIL import Image

    check_count("cell_side", cell_side, low=32, high=2000)
    if not 1 <= len(explanations) <= MOST_MAPS:
        raise ArrayError(f"side by side: expected 1 to {MOST_MAPS} explanations, got {len(explanations)}")
    first = explanations[0]
    if any(one.source != first.source or one.photo.size != first.photo.size for one in explanations):
        raise ArrayError("side by side: expected explanations of one photo, got several: draw one picture of each")
    scale = cell_side / max(first.photo.size)
    size = (max(1, round(first.photo.width * scale)), max(1, round(first.photo.height * scale)))
    plain = first.photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    cells = [drawing.caption(plain, "photo", Path(first.source).name, min_width=_NARROWEST)]
    for one in explanations:
        words = [] if one.label == str(one.target) else [f"class {one.target}"]
        words += [] if one.against_label is None else [f"against {one.against_label}"]
        words += [f"no explanation: {one.reason}"] if one.empty else []
        cells.append(
            drawing.caption(
                one.drawn(size),
                one.label,
                ", ".join(words) or " ",
                value=one.measured,
                alert=one.empty,
                min_width=_NARROWEST,
            )
        )
    return _page(cells, f"{first.how}; each map relative to its own maximum")


def save_side_by_side(explanations: Sequence[Explanation], path: str | os.PathLike[str]) -> Path:
    """Write `side_by_side` under a temporary name that is then changed.

    Args:
        explanations: As in `side_by_side`.
        path: Ends in ``.png``, ``.jpg`` or ``.jpeg``.

    Returns:
        The path.

    Raises:
        ArrayError: As `side_by_side`.
        OutputError: The suffix is another one, or the file cannot be written.
    """
    path = check_path("save_side_by_side", path, OutputError)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise OutputError(f"{path}: maps side by side are a picture: expected .png or .jpg")
    data = io.BytesIO()
    picture = side_by_side(explanations)
    picture.save(data, format="PNG") if suffix == ".png" else picture.save(data, format="JPEG", quality=92)
    write_bytes(path, data.getvalue())
    return path


def _page(cells: Sequence[Image.Image], words: str) -> Image.Image:
    """The cells in rows, under a line of `words` and above a scale of the colours."""
    from PIL import Image

    across = min(_ACROSS, len(cells))
    rows = [cells[start : start + across] for start in range(0, len(cells), across)]
    page = drawing.side_by_side(rows, title=words, cell_width=cells[0].width)
    bar = drawing.scale_bar(min(page.width - 40, 800), 15)
    whole = Image.new("RGB", (page.width, page.height + bar.height + 10), page.getpixel((0, 0)))
    whole.paste(page, (0, 0))
    whole.paste(bar, ((page.width - bar.width) // 2, page.height))
    return whole
