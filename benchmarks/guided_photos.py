"""The photos of the guided form's evidence, and what one network says about each: see docs/results/guided.md."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from cfcam.calibration.measures import EngineAccess, box_region, mask_region
from cfcam.runtime import Explainer
from cfcam.runtime.photos.frame import Frame
from evidence_networks import BOTH, SHARED, Network
from numpy.typing import NDArray
from PIL import Image

#: Up to which rank of the network an object counts, and as one of two objects.
RANKS, PAIR_RANKS = 5, 20
#: Least and largest share of the input that boxes may cover.
COVERED = (0.005, 0.8)
#: Standard deviation of the input noise over the photo's own.
NOISE = 0.1

Array = NDArray[np.float32]
Region = NDArray[np.bool_]


@dataclass(frozen=True)
class Photo:
    """objects: (ImageNet classes, boxes as fractions) each. index: the photo's class, or None. mask: of that class."""

    path: Path
    objects: tuple[tuple[tuple[int, ...], list[list[float]]], ...] = ()
    index: int | None = None
    mask: Path | None = None


@cache
def development() -> tuple[Photo, ...]:
    """Single photos, COCO photos with the boxes of one class, and with those of several."""
    data = SHARED / "data"
    found = []
    for name, about in json.loads((data / "photos" / "labels.json").read_text()).items():
        if about.get("imagenet_idx") is not None:
            mask = data / "photos" / "samoyed_mask.png" if name.startswith("samoyed") else None
            found.append(Photo(data / "photos" / name, index=about["imagenet_idx"], mask=mask))
    for about in json.loads((data / "boxes" / "boxes.json").read_text()):
        index = about["imagenet_idx"]
        found.append(Photo(data / "boxes" / about["file"], (((index,), about["boxes_xyxy"]),), index))
    for name, objects in json.loads((data / "objects" / "objects.json").read_text()).items():
        each = tuple((tuple(one["imagenet"]), one["boxes"]) for one in objects)
        found.append(Photo(data / "objects" / name, each))
    return tuple(sorted(found, key=lambda one: one.path.name))


@cache
def confirmation() -> tuple[Photo, ...]:
    """ImageNet photos without boxes, one of a class."""
    folder = SHARED / "data" / "confirm"
    labels = json.loads((folder / "labels.json").read_text())
    return tuple(Photo(folder / name, index=about["imagenet_idx"]) for name, about in sorted(labels.items()))


@dataclass(frozen=True)
class Arrays:
    """One image and class. a, g, rivals, detail: of the last layer; middle_a, middle_g: of the middle one.

    nearest: the mean gradient (C, 1, 1) of the three other classes whose logits are nearest, where it was asked for.
    """

    a: Array
    g: Array
    rivals: Array
    detail: Array
    middle_a: Array
    middle_g: Array
    nearest: Array | None = None


@dataclass(frozen=True)
class Seen:
    """What a network made of a photo.

    image (3, H, W); probabilities (K,); label: the object's class, the photo's, or the top one; second: the first other
    class; known: whether something says that `label` is in the photo; region: of the object, or None. pair: two classes
    and their regions without their overlap, or None.
    """

    image: Array
    probabilities: Array
    label: int
    second: int
    known: bool
    region: Region | None
    pair: tuple[tuple[int, Region], tuple[int, Region]] | None

    @property
    def top(self) -> int:
        return int(self.probabilities.argmax())


class Instrument:
    """A network's file with both layers, the detail and the rivals, open. nearest: also give `Arrays.nearest`."""

    def __init__(self, network: Network, explainer: Explainer, nearest: bool) -> None:
        self.network, self.access, self._nearest = network, EngineAccess(explainer, "gradcam"), nearest
        self._slopes: dict[int, Array] = {}

    @classmethod
    def open(cls, network: Network, nearest: bool = False) -> Instrument:
        return cls(network, Explainer(network.file(BOTH), threads=1), nearest)

    def look(self, photo: Photo) -> Seen:
        """One inference: which objects count, and which classes they are."""
        images, frames = self.access.load([photo.path])
        p = self.access.predict(images)[0]
        order = np.argsort(-p, kind="stable")
        rank = {int(index): place for place, index in enumerate(order)}
        objects = []
        for indices, boxes in photo.objects:
            region = box_region(boxes, frames[0])
            index = min((one + self.network.offset for one in indices), key=rank.__getitem__)
            if COVERED[0] <= region.mean() <= COVERED[1]:
                objects.append((rank[index], index, region))
        objects.sort(key=lambda one: one[0])
        label, region = int(order[0]), None
        if objects and objects[0][0] < RANKS:
            _, label, region = objects[0]
        elif photo.index is not None:
            label = photo.index + self.network.offset
            region = _masked(photo, frames[0])
        second = int(order[1] if order[0] == label else order[0])
        known = region is not None or photo.index is not None
        return Seen(images[0], p, label, second, known, region, _pair(objects))

    def arrays(self, images: Iterable[Array], classes: Iterable[int]) -> list[Arrays]:
        """Of every image for its class, five at a time."""
        x, targets, found = np.stack(list(images)), list(classes), []
        for start in range(0, len(x), 5):
            part = self.access.tensors(x[start : start + 5], targets[start : start + 5])
            last, middle = part.layers
            assert last.rivals is not None and last.detail is not None  # noqa: PT018 - `BOTH` has them
            rows = zip(
                last.activations,
                last.gradients,
                last.rivals,
                last.detail,
                middle.activations,
                middle.gradients,
                strict=True,
            )
            found += [Arrays(*row) for row in rows]
            if self._nearest:
                assert part.logits is not None
                for i, logits in enumerate(part.logits):
                    found[start + i] = replace(found[start + i], nearest=self._mean_slope(logits, targets[start + i]))
        return found

    def _mean_slope(self, logits: Array, target: int) -> Array:
        away = np.abs(logits - logits[target])
        away[target] = np.inf
        return np.mean([self._slope(int(index)) for index in np.argsort(away, kind="stable")[:3]], axis=0)

    def _slope(self, index: int) -> Array:
        """The last layer's gradient of a class: behind a pooling and a linear head it is the same for all images."""
        if index not in self._slopes:
            side = self.network.size
            last = self.access.tensors(np.zeros((1, 3, side, side), np.float32), [index]).layers[0]
            self._slopes[index] = last.gradients[0].mean(axis=(1, 2), keepdims=True)
        return self._slopes[index]


def with_noise(photo: Photo, image: Array) -> Array:
    """The image with noise that is the photo's own, whatever the order of photos."""
    random = np.random.default_rng(zlib.crc32(photo.path.name.encode()))
    return image + np.float32(NOISE * image.std()) * random.standard_normal(image.shape, np.float32)


def _masked(photo: Photo, frame: Frame) -> Region | None:
    return None if photo.mask is None else mask_region(np.asarray(Image.open(photo.mask)) == 0, frame)


def _pair(objects: list[tuple[int, int, Region]]) -> tuple[tuple[int, Region], tuple[int, Region]] | None:
    """The two best-ranked objects that can be told apart by place."""
    near = [one for one in objects if one[0] < PAIR_RANKS]
    if len(near) < 2 or near[0][1] == near[1][1]:
        return None
    (_, first, here), (_, second, there) = near[:2]
    both = here & there
    here, there = here & ~both, there & ~both
    if min(here.mean(), there.mean()) < COVERED[0]:
        return None
    return (first, here), (second, there)
