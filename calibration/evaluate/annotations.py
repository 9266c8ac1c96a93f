"""Where the objects are: boxes from a file (JSON, COCO or CSV), or masks from a folder.

Photos are recognised by their file name. Boxes are (x0, y0, x1, y1) as fractions of the upright
photo's width and height; docs/evaluate.md describes the three formats.
"""

from __future__ import annotations

import csv
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
from ...runtime.errors import ArrayError, CfcamError, ImageError
from ...runtime.photos.frame import Frame
from ...runtime.targets import resolve_target
from ..measures.localisation import box_region, mask_region

__all__ = ["Annotation", "AnnotationError", "Annotations", "read_boxes", "read_masks"]

Box = tuple[float, float, float, float]


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
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
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
    try:
        data = json.loads(text)
    except ValueError as error:
        raise AnnotationError(f"{file}: is not valid JSON ({error})") from error
    try:
        if isinstance(data, dict):
            yield from _from_coco(file, data)
            return
        for entry in data:
            boxes = entry["boxes"] if "boxes" in entry else entry["boxes_xyxy"]
            checked = tuple(_box(file, entry["file"], box) for box in boxes)
            yield (
                str(entry["file"]),
                Annotation(checked, target=entry.get("target"), imagenet=entry.get("imagenet_idx")),
            )
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise AnnotationError(
            f"{file}: expected a list of {{'file', 'boxes', 'target'}} or COCO's {{'images', 'annotations'}}; "
            f"{type(error).__name__}: {error}"
        ) from error


def _from_coco(file: Path, data: dict[str, Any]) -> Iterator[tuple[str, Annotation]]:
    images = {image["id"]: image for image in data["images"]}
    for entry in data["annotations"]:
        if entry["image_id"] not in images:
            raise AnnotationError(
                f"{file}: an annotation names the image {entry['image_id']}, which is not in 'images'"
            )
        image = images[entry["image_id"]]
        x, y, w, h = entry["bbox"]
        width, height = image["width"], image["height"]
        corners = (x / width, y / height, min(1, (x + w) / width), min(1, (y + h) / height))
        yield image["file_name"], Annotation((_box(file, image["file_name"], corners),))


def _from_csv(file: Path, text: str) -> Iterator[tuple[str, Annotation]]:
    reader = csv.DictReader(text.splitlines())
    wanted = {"file", "x0", "y0", "x1", "y1"}
    if not wanted <= set(reader.fieldnames or ()):
        raise AnnotationError(f"{file}: expected the columns file,x0,y0,x1,y1 and if wanted target, got "
                              f"{','.join(reader.fieldnames or ()) or 'nothing'}")  # fmt: skip
    for row in reader:
        box = _box(file, row["file"], [row[key] for key in ("x0", "y0", "x1", "y1")])
        yield row["file"], Annotation((box,), target=row.get("target") or None)


def _box(file: Path, name: Any, values: Any) -> Box:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError):
        raise AnnotationError(f"{file}: {name}: expected a box of four numbers, got {values!r}") from None
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise AnnotationError(
            f"{file}: {name}: expected x0 < x1 and y0 < y1 as fractions of the photo, from 0 to 1, got {values!r}"
        )
    return x0, y0, x1, y1


def _open_mask(path: Path, object_value: int | None, frame: Frame) -> NDArray[np.bool_]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise whatever they like on damaged data
        raise ImageError(f"{path}: the mask cannot be read ({error})") from error
    if values.ndim != 2:
        raise ImageError(f"{path}: expected a mask with one value per pixel, got {values.shape[2]} channels")
    width, height = frame.photo
    if values.shape != (height, width):
        raise ArrayError(
            f"{path}: the mask has {values.shape[1]} x {values.shape[0]} pixels, the photo {width} x {height}"
        )
    return values != 0 if object_value is None else values == object_value
