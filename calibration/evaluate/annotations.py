"""Where the objects are: boxes from a file (JSON, COCO or CSV), or masks from a folder.

Photos are recognised by their file name. Boxes are (x0, y0, x1, y1) as fractions of the upright
photo's width and height; docs/evaluate.md describes the three formats.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.contract.modelfile import file_sha256
from ...runtime.contract.spec import OutputSpec
from ...runtime.errors import ArrayError, CfcamError, ImageError, one_line
from ...runtime.json_reader import parse_json, read_text
from ...runtime.photos.frame import Frame
from ...runtime.photos.images import opened_file
from ...runtime.shown import shown_value
from ...runtime.targets import resolve_target
from ..measures.localisation import box_region, mask_region

__all__ = ["Annotation", "AnnotationError", "Annotations", "read_boxes", "read_masks"]

Box = tuple[float, float, float, float]

#: COCO's largest file has half a gigabyte.
_MOST_BYTES = 2**30


class AnnotationError(CfcamError):
    """A file of boxes or a folder of masks that cannot be read, or that does not fit the photos."""


@dataclass(frozen=True)
class Annotation:
    """Of one photo. boxes: as fractions. mask: path of its mask. object_value: which of the mask's values is the
    object, None for all that are not 0. target: its class as index or label. imagenet: index in ImageNet's order.
    """

    boxes: tuple[Box, ...] = ()
    mask: Path | None = None
    object_value: int | None = None
    target: int | str | None = None
    imagenet: int | None = None

    def region(self, frame: Frame) -> NDArray[np.bool_] | None:
        """bool (H, W) on the model's input, or None without boxes and mask. Raises `CfcamError`."""
        if self.mask is not None:
            return mask_region(_open_mask(self.mask, self.object_value, frame), frame)
        return box_region(self.boxes, frame) if self.boxes else None

    def class_index(self, output: OutputSpec) -> int | None:
        """The class in the model's own order, or None. Raises `TargetError`."""
        if self.imagenet is not None:
            return resolve_target(self.imagenet + output.label_offset, output)
        return None if self.target is None else resolve_target(self.target, output)

    def identity(self) -> str:
        """Changes when anything in it changes; for the journal."""
        mask = None if self.mask is None else [self.mask.name, file_sha256(self.mask), self.object_value]
        return json.dumps([self.boxes, mask, self.target, self.imagenet])


@dataclass(frozen=True)
class Annotations:
    """source: the file or folder. each: lower-case file name (for masks: stem) -> `Annotation`. names: as written."""

    source: Path
    each: Mapping[str, Annotation]
    names: Mapping[str, str] = field(default_factory=dict)
    by_stem: bool = False

    def of(self, photo: str | os.PathLike[str]) -> Annotation | None:
        """What is known about `photo`."""
        return self.each.get(self._key(photo))

    def without_photo(self, photos: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Names that belong to none of `photos`."""
        known = {self._key(photo) for photo in photos}
        return [self.names.get(key, key) for key in self.each if key not in known]

    def _key(self, photo: str | os.PathLike[str]) -> str:
        path = Path(photo)
        return (path.stem if self.by_stem else path.name).lower()


def read_boxes(path: str | os.PathLike[str]) -> Annotations:
    """Boxes of many photos: ``.json`` (a list of photos, or COCO's object) or ``.csv``. Raises `AnnotationError`."""
    file = Path(path)
    text = read_text(file, AnnotationError, most=_MOST_BYTES)
    rows = _from_csv(file, text) if file.suffix.lower() == ".csv" else _from_json(file, text)
    found: dict[str, Annotation] = {}
    names: dict[str, str] = {}
    for name, one in rows:
        key = Path(name).name.lower()
        before = found.get(key)
        if before is not None:
            one = Annotation(before.boxes + one.boxes, target=before.target, imagenet=before.imagenet)
        found[key] = one
        names[key] = name
    if not found:
        raise AnnotationError(f"{file}: holds no boxes")
    return Annotations(file, found, names)


def read_masks(folder: str | os.PathLike[str], object_value: int | None = None) -> Annotations:
    """Masks ``NAME.png`` (or .bmp, .gif, .tif) for photos ``NAME.*``. Raises `AnnotationError` when there are none.

    object_value: the value of the object's pixels; None for all that are not 0.
    """
    path = Path(folder)
    if not path.is_dir():
        raise AnnotationError(f"{path}: is no folder of masks")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in (".png", ".bmp", ".gif", ".tif", ".tiff"))
    if not files:
        raise AnnotationError(f"{path}: holds no masks (.png, .bmp, .gif or .tif)")
    each = {p.stem.lower(): Annotation(mask=p, object_value=object_value) for p in files}
    return Annotations(path, each, {p.stem.lower(): p.name for p in files}, by_stem=True)


def _from_json(file: Path, text: str) -> Iterator[tuple[str, Annotation]]:
    data = parse_json(text, str(file), AnnotationError)
    if isinstance(data, dict):
        yield from _from_coco(file, data)
        return
    for number, entry in enumerate(_list(file, data, "the file")):
        place = f"entry {number}"
        boxes = _list(file, _of(file, entry, place, "boxes", "boxes_xyxy"), f"{place}: boxes")
        name = _name(file, _of(file, entry, place, "file"), place)
        checked = tuple(_box(file, name, box) for box in boxes)
        yield name, Annotation(checked, target=_target(file, entry, place), imagenet=_whole(file, entry, place))


def _from_coco(file: Path, data: dict[str, Any]) -> Iterator[tuple[str, Annotation]]:
    images: dict[str, tuple[str, float, float]] = {}
    for number, image in enumerate(_list(file, _of(file, data, "the file", "images"), "images")):
        place = f"images[{number}]"
        sides = [_of(file, image, place, side) for side in ("width", "height")]
        if not all(isinstance(side, int | float) and side > 0 for side in sides):
            raise AnnotationError(f"{file}: {place}: expected a width and a height above 0, got {shown_value(sides)}")
        name = _name(file, _of(file, image, place, "file_name"), place)
        images[repr(_of(file, image, place, "id"))] = (name, sides[0], sides[1])
    for number, entry in enumerate(_list(file, _of(file, data, "the file", "annotations"), "annotations")):
        place = f"annotations[{number}]"
        key = repr(_of(file, entry, place, "image_id"))
        if key not in images:
            raise AnnotationError(f"{file}: an annotation names the image {key}, which is not in 'images'")
        name, width, height = images[key]
        x, y, w, h = _four(file, name, _of(file, entry, place, "bbox"))
        yield (
            name,
            Annotation((_box(file, name, (x / width, y / height, min(1, (x + w) / width), min(1, (y + h) / height))),)),
        )


def _from_csv(file: Path, text: str) -> Iterator[tuple[str, Annotation]]:
    wanted = {"file", "x0", "y0", "x1", "y1"}
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not wanted <= set(reader.fieldnames or ()):
            listed = ",".join(reader.fieldnames or ()) or "nothing"
            raise AnnotationError(f"{file}: expected the columns file,x0,y0,x1,y1 and if wanted target, got {listed}")
        for row in reader:
            name = _name(file, row["file"], f"line {reader.line_num}")
            box = _box(file, name, [row[key] for key in ("x0", "y0", "x1", "y1")])
            yield name, Annotation((box,), target=row.get("target") or None)
    except csv.Error as error:
        raise AnnotationError(f"{file}: line {reader.line_num}: is not valid CSV ({one_line(error)})") from error


def _of(file: Path, entry: Any, place: str, *keys: str) -> Any:
    """The value of the first of `keys` that the entry has."""
    found = [entry[key] for key in keys if key in entry] if isinstance(entry, dict) else []
    if not found:
        expected = "expected a list of {'file', 'boxes', 'target'} or COCO's {'images', 'annotations'}"
        raise AnnotationError(f"{file}: {place}: has no '{keys[0]}': {expected}")
    return found[0]


def _list(file: Path, value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise AnnotationError(f"{file}: {place}: expected a list, got {shown_value(value)}")
    return value


def _name(file: Path, value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise AnnotationError(f"{file}: {place}: expected the name of a photo, got {shown_value(value)}")
    return value


def _target(file: Path, entry: dict[str, Any], place: str) -> int | str | None:
    target = entry.get("target")
    if isinstance(target, str):
        return target
    return _whole(file, entry, place, "target")


def _whole(file: Path, entry: dict[str, Any], place: str, key: str = "imagenet_idx") -> int | None:
    value = entry.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise AnnotationError(f"{file}: {place}: {key}: expected a whole number, got {shown_value(value)}")
    return value


def _four(file: Path, name: str, values: Any) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != 4 or isinstance(values, str) or any(isinstance(value, bool) for value in values):
        raise AnnotationError(f"{file}: {name}: expected a box of four numbers, got {shown_value(values)}")
    return numbers


def _box(file: Path, name: str, values: Any) -> Box:
    x0, y0, x1, y1 = _four(file, name, values)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise AnnotationError(
            f"{file}: {name}: expected x0 < x1 and y0 < y1 as fractions of the photo, from 0 to 1, got "
            f"{shown_value(values)}"
        )
    return x0, y0, x1, y1


def _open_mask(path: Path, object_value: int | None, frame: Frame) -> NDArray[np.bool_]:
    try:
        with opened_file(path) as image:
            values = np.asarray(image)
    except ImageError as error:
        raise ImageError(f"{path}: the mask cannot be read ({error})") from error
    if values.ndim != 2:
        raise ImageError(f"{path}: expected a mask with one value per pixel, got {values.shape[2]} channels")
    width, height = frame.photo
    if values.shape != (height, width):
        raise ArrayError(
            f"{path}: the mask has {values.shape[1]} x {values.shape[0]} pixels, the photo {width} x {height}"
        )
    return values != 0 if object_value is None else values == object_value
