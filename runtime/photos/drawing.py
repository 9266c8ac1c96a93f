"""Pictures of explanations: colours, hatching, text, scales and panels. Pillow and numpy only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArrayError
from ..shown import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "caption",
    "colour_map",
    "heat_picture",
    "label_on",
    "laid_over",
    "layer_png",
    "scale_bar",
    "side_by_side",
    "to_levels",
]

#: Control points of the colour map: lightness (CIE L*) grows evenly from 5 to 95 while the hue
#: turns from blue-violet through red to yellow, so that more always looks like more, in grey and to
#: colour-blind eyes as well. a* and b* were chosen by hand.
_LAB_POINTS = (
    (5, 8, -20),
    (20, 38, -42),
    (38, 58, -22),
    (54, 62, 20),
    (68, 42, 58),
    (82, 10, 74),
    (95, -12, 52),
)

#: Pixels of a picture that are blended at a time.
_BAND = 32_768

_PAPER = (255, 255, 255)
_INK = (24, 24, 28)
_GREY = (104, 104, 112)
_ALERT = (176, 28, 28)


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """The colour map as uint8 (256, 3), interpolated in CIE Lab (D65) and converted to sRGB."""
    points = np.array(_LAB_POINTS, np.float64)
    # Steps are placed by lightness, so that equal steps in value are equal steps in lightness.
    lightness = np.linspace(points[0, 0], points[-1, 0], 256)
    a, b = (np.interp(lightness, points[:, 0], points[:, i]) for i in (1, 2))
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.95047, 1.0, 1.08883)
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    linear = np.clip(xyz @ to_rgb.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(srgb * 255).astype(np.uint8)


def colour_map(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours uint8 (..., 3) of `values` (...) in [0, 1]; values outside are clipped, NaN gets the colour of 0."""
    levels = np.rint(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    return _table()[levels]


def heat_picture(photo: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """`photo` with `heat` (float32 (H, W) of the photo's size, in [0, 1]) laid over it.

    Where heat is NaN, around a rectangle, the model did not look: as in `laid_over`.
    """
    from PIL import Image

    if heat.shape != (photo.height, photo.width):
        raise ArrayError(f"heat: expected shape {(photo.height, photo.width)}, the photo's, got {heat.shape}")
    seen = ~np.isnan(heat)
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return laid_over(photo, None, (0, 0, 0, 0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if not seen[top:bottom, left:right].all():
        raise ArrayError("heat: expected numbers in one rectangle and NaN around it alone")
    levels = Image.fromarray(to_levels(heat[top:bottom, left:right]))
    return laid_over(photo, levels, (int(left), int(top), int(right), int(bottom)))


def to_levels(heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The 256 steps of the colours: uint8 of `heat` in [0, 1]; values outside are clipped.

    Little is lost by going to bytes first, and Pillow's loops over bytes are several times as fast as arrays of floats.
    """
    levels = np.minimum(np.maximum(heat, np.float32(0)), np.float32(1))
    levels *= 255
    levels += 0.5
    return levels.astype(np.uint8)


def laid_over(photo: Image.Image, levels: Image.Image | None, box: tuple[int, int, int, int]) -> Image.Image:
    """`photo` under the colours of `levels` (mode L, of the size of `box`: left, top, right, bottom on the photo).

    Outside the box the model did not look: hatched, behind a thin line. The photo's colours give
    way to grey as the heat takes over, so that a red bird is not taken for a hot one.
    """
    from PIL import Image

    colour = photo if photo.mode == "RGB" else photo.convert("RGB")
    width, height = colour.size
    left, top, right, bottom = box
    mixed = Image.new("RGB", colour.size)
    if levels is not None:
        opacity = levels.point(_opacities())
        heat = levels.copy()
        heat.putpalette(_table().tobytes())  # makes it an image of indices
        heat = heat.convert("RGB")
        # In bands that stay in the processor's cache, which saves a fifth of the time at 720p.
        step = max(1, _BAND // heat.width)
        for row in range(0, heat.height, step):
            band = (0, row, heat.width, min(row + step, heat.height))
            part = colour.crop((left, top + row, right, top + band[3]))
            mixed.paste(_blend(part, heat.crop(band), opacity.crop(band)), (left, top + row))
    for strip in ((0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)):
        if strip[0] < strip[2] and strip[1] < strip[3]:
            mixed.paste(_hatched(colour.crop(strip), strip[0] + strip[1], max(width, height)), strip[:2])
    line = max(1, round(max(width, height) / 400))
    if levels is not None:
        for x, y, x1, y1 in (
            (left - line, top, left, bottom),
            (right, top, right + line, bottom),
            (left, top - line, right, top),
            (left, bottom, right, bottom + line),
        ):
            mixed.paste(_PAPER, (max(0, x), max(0, y), max(0, min(x1, width)), max(0, min(y1, height))))
    return mixed


def _blend(colour: Image.Image, heat: Image.Image, opacity: Image.Image) -> Image.Image:
    """The RGB photo `colour`, muted, under the colours `heat`."""
    from PIL import Image

    grey = colour.convert("L").convert("RGB")
    return Image.composite(heat, Image.blend(grey, colour, 0.4), opacity)


@lru_cache(maxsize=1)
def _opacities() -> list[int]:
    """How opaque each of the 256 levels of heat is, of 255: from 0.15 to 0.65."""
    return [round((0.15 + 0.5 * level / 255) * 255) for level in range(256)]


def layer_png(heat: NDArray[np.floating]) -> bytes:
    """A map (H, W) in [0, 1] as a PNG file that can be laid over a photo.

    Its palette indices are the 256 steps of `to_levels`; the palette has their colours, more opaque for more heat.
    """
    from PIL import Image

    picture, data = Image.fromarray(to_levels(heat)), io.BytesIO()
    picture.putpalette(_table().tobytes())
    full = _opacities()[-1]
    picture.save(data, format="PNG", transparency=bytes(round(255 * part / full) for part in _opacities()))
    return data.getvalue()


def scale_bar(width: int, font_size: int) -> Image.Image:
    """A bar of `width` pixels with the colours from 0 to 1 and words that say what they mean."""
    from PIL import Image, ImageDraw

    font = _font(font_size)
    height = max(6, round(font_size * 0.8))
    pad = max(2, font_size // 4)
    picture = Image.new("RGB", (width, height + round(font_size * 1.5) + pad), _PAPER)
    ramp = colour_map(np.linspace(0, 1, width, dtype=np.float32))
    picture.paste(Image.fromarray(np.ascontiguousarray(np.repeat(ramp[None], height, axis=0))), (0, 0))
    draw = ImageDraw.Draw(picture)
    y = height + pad
    draw.text((0, y), "0", font=font, fill=_INK)
    draw.text((width, y), "1", font=font, fill=_INK, anchor="ra")
    room = width - 4 * font_size
    for words in ("evidence for the class, relative to its maximum", "evidence, relative to its maximum", "evidence"):
        if font.getlength(words) <= room:
            draw.text((width / 2, y), words, font=font, fill=_GREY, anchor="ma")
            break
    return picture


def caption(
    picture: Image.Image,
    title: str,
    subtitle: str = "",
    *,
    value: str = "",
    bar: bool = False,
    alert: bool = False,
    min_width: int = 320,
) -> Image.Image:
    """`picture` on white under its title and subtitle, with `value` at the right, above a scale (`bar`).

    The subtitle of an `alert` is red.
    A picture narrower than `min_width` is centred on a page of that width, so that the words stay
    readable; words that are too long are shortened with an ellipsis.
    """
    from PIL import Image, ImageDraw

    width = max(picture.width, min_width)
    size = max(15, round(width / 26))
    small = max(13, round(size * 0.75))
    pad = max(6, size // 2)
    lines = [(title, size, _INK)] + ([(subtitle, small, _ALERT if alert else _GREY)] if subtitle else [])
    head = pad + sum(round(s * 1.35) for _, s, _ in lines) + pad // 2
    foot = scale_bar(width - 2 * pad, small) if bar else None
    height = head + picture.height + (pad + foot.height + pad // 2 if foot else 0)
    page = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(page)
    y = pad
    draw.text((width - pad, y), value, font=_font(size), fill=_INK, anchor="ra")
    room = width - 2 * pad
    taken = round(_font(size).getlength(value)) + size if value else 0
    for i, (text, text_size, colour) in enumerate(lines):
        line = _shorten(text, text_size, room - taken if i == 0 else room)
        draw.text((pad, y), line, font=_font(text_size), fill=colour)
        y += round(text_size * 1.35)
    page.paste(picture, ((width - picture.width) // 2, head))
    if foot is not None:
        page.paste(foot, (pad, head + picture.height + pad))
    return page


def label_on(picture: Image.Image, words: str) -> Image.Image:
    """`picture` with `words` in light letters on a dark strip in its upper left corner."""
    from PIL import ImageDraw

    size = max(12, picture.width // 40)
    font, pad = _font(size), size // 3
    line = _shorten(words, size, picture.width - 2 * pad)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, font.getlength(line) + 2 * pad, size * 1.3 + pad), fill=_INK)
    draw.text((pad, pad / 2), line, font=font, fill=_PAPER)
    return picture


def side_by_side(
    images: Sequence[Sequence[Image.Image]],
    *,
    columns: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    title: str = "",
    cell_width: int = 480,
) -> Image.Image:
    """A panel: `images` by rows, each scaled to `cell_width`, with titles for columns and rows.

    Raises `ArrayError` when there is no image or the titles do not match in number.
    """
    from PIL import Image, ImageDraw

    count = max((len(row) for row in images), default=0)
    if count == 0:
        raise ArrayError("panel: expected at least one image")
    if (columns is not None and len(columns) != count) or (rows is not None and len(rows) != len(images)):
        raise ArrayError(f"panel: expected {count} column titles and {len(images)} row titles")
    scaled = [
        [im.convert("RGB").resize((cell_width, max(1, round(im.height * cell_width / im.width))), 1) for im in row]
        for row in images
    ]
    size = max(15, cell_width // 24)
    gap, line = size, round(size * 1.4)
    width = gap + count * (cell_width + gap)
    title_height = round(size * 1.3 * 1.5) if title else 0
    row_heights = [max(im.height for im in row) if row else 0 for row in scaled]
    height = gap + title_height + (line if columns else 0)
    height += sum(h + gap + (line if rows else 0) for h in row_heights)
    page = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(page)
    y = gap
    if title:
        big = round(size * 1.3)
        draw.text((gap, y), _shorten(title, big, width - 2 * gap), font=_font(big), fill=_INK)
        y += title_height
    if columns:
        for i, text in enumerate(columns):
            x = gap + i * (cell_width + gap)
            draw.text((x, y), _shorten(text, size, cell_width), font=_font(size), fill=_INK)
        y += line
    for i, row in enumerate(scaled):
        if rows:
            draw.text((gap, y), _shorten(rows[i], size, width - 2 * gap), font=_font(size), fill=_GREY)
            y += line
        for j, im in enumerate(row):
            page.paste(im, (gap + j * (cell_width + gap), y))
        y += row_heights[i] + gap
    return page


def _hatched(strip: Image.Image, phase: int, longest: int) -> Image.Image:
    """A strip of a photo, grey and pale under diagonal lines.

    The lines go on from strip to strip: `phase` is the sum of left and top, `longest` the photo's longer side.
    """
    from PIL import Image

    period = max(8, round(longest / 40))
    dark = (np.arange(phase, phase + strip.width + strip.height) % period < max(1.0, period * 0.15)) * np.uint8(255)
    # Every row is the one above, moved by a pixel.
    rows = np.lib.stride_tricks.sliding_window_view(dark, strip.width)[: strip.height]
    grey = strip.convert("L")
    picture, lines = (grey.point(_pale(share)) for share in (1.0, 0.72))
    picture.paste(lines, (0, 0), Image.fromarray(rows))
    return picture.convert("RGB")


@lru_cache(maxsize=2)
def _pale(share: float) -> list[int]:
    """Grades of a pale photo, `share` as light."""
    return [round((grade * 0.45 + 125) * share) for grade in range(256)]


@lru_cache(maxsize=32)
def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _shorten(text: str, size: int, room: int) -> str:
    font = _font(size)
    text = shown(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"
