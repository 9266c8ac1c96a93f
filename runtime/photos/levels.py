"""From the values of a photo, whatever its type, to p from 0 to 255.

8-bit values are p. Others have a range, whose ends are p = 0 and p = 255: the one that was stated, or else all that
16 bits can hold, and 0 to 1 for floating-point numbers. p then has fractions: nothing is rounded to 8 bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["eight_bit_note", "narrow_range_note", "parse_photo_range", "to_levels"]

#: Values that are converted at a time.
_AT_ONCE = 2**20
#: A photo that uses less than this share of a range that nobody stated is doubted.
_USED = 1 / 16
_OPTION = "--photo-range LOW:HIGH of cfcam export or explain (photo_range=(LOW, HIGH) in Python)"


def to_levels(
    values: NDArray[Any], name: str, stated: tuple[float, float] | None = None
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """p of a photo's values.

    Args:
        values: Of any shape; integers, floating-point numbers or truth values.
        name: Of the photo, for messages.
        stated: The values (low, high) that p = 0 and p = 255 stand for; None where nobody said.

    Returns:
        p, uint8 where the values were, else float32; and what there is to warn about, in sentences.

    Raises:
        ImageError: Values that are no numbers, are not finite, or lie outside a range that nobody stated.
    """
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255), ()
    if values.dtype == np.uint8:
        return values, eight_bit_note(name, stated)
    floating = np.issubdtype(values.dtype, np.floating)
    if not floating and not np.issubdtype(values.dtype, np.integer):
        raise ImageError(f"{name}: holds values of type {values.dtype}, expected integers or floating-point numbers")
    lowest, highest = float(values.min()), float(values.max())
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise ImageError(f"{name}: holds NaN or infinity")
    low, high = stated or (0.0, 1.0 if floating else 65535.0)
    notes: tuple[str, ...] = ()
    if stated is None:
        if lowest < low or highest > high:
            kind = "floating-point values" if floating else "values"
            raise ImageError(
                f"{name}: holds {kind} from {lowest:g} to {highest:g}, outside the {_range((low, high))} that is taken "
                f"where nothing is said: state their range with {_OPTION}"
            )
        notes = narrow_range_note(name, highest, high)
    elif lowest < low or highest > high:
        share = np.count_nonzero((values < low) | (values > high)) / values.size
        notes = (f"{name}: {share:.1%} of its values lie outside the stated range {_range(stated)}, and are cut off",)
    levels = np.empty(values.shape, np.float32)
    rows = max(1, _AT_ONCE // max(1, values[0].size))
    for start in range(0, len(values), rows):  # in double precision, of which a whole photo would take much memory
        part = values[start : start + rows].astype(np.float64)
        levels[start : start + rows] = (np.clip(part, low, high) - low) * (255 / (high - low))
    return levels, notes


def parse_photo_range(text: str) -> tuple[float, float]:
    """(low, high) of ``"0:4095"``. Raises `ImageError`."""
    low, colon, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if not (colon and -math.inf < ends[0] < ends[1] < math.inf):
        raise ImageError(f"photo range: expected LOW:HIGH such as 0:4095, got '{text}'")
    return ends


def eight_bit_note(name: str, stated: tuple[float, float] | None) -> tuple[str, ...]:
    """The warning about an 8-bit photo where another range was stated, if any."""
    if stated in (None, (0, 255)):
        return ()
    return (f"{name}: has 8 bits, whose range is 0:255: the stated {_range(stated)} is not used",)


def narrow_range_note(name: str, highest: float, high: float) -> tuple[str, ...]:
    """The warning about a photo whose largest value is `highest` where the range 0 to `high` was taken, if any."""
    if highest >= high * _USED:
        return ()
    return (
        f"{name}: its values end at {highest:g}, less than a sixteenth of the {_range((0, high))} that is taken where "
        f"nothing is said, so that it is all but black: state their range with {_OPTION}",
    )


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g}:{ends[1]:g}"
