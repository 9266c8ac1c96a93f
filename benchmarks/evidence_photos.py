"""The photos of the evidence, and what one network's layer says about them: computed once, kept in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cfcam.calibration.measures import EngineAccess, box_region, make_mosaic, mask_region
from cfcam.runtime import Explainer
from evidence_networks import FILES, SHARED, Network
from numpy.typing import NDArray
from PIL import Image

#: Random groupings of the photos into mosaics; within one grouping a photo is used once.
GROUPINGS = 4
#: Least probability of its class for a photo to enter a mosaic.
CONFIDENCE = 0.4


@dataclass(frozen=True)
class Photo:
    """path; index: its ImageNet class; boxes: as fractions, or None; mask: of the object, or None; tune: its half."""

    path: Path
    index: int
    boxes: list[list[float]] | None
    mask: Path | None
    tune: bool


@cache
def photos() -> tuple[Photo, ...]:
    """All 45, sorted by name; every third tunes, which gives 15 to tuning and 30 to testing."""
    found: list[tuple[Path, int, Any, Any]] = []
    folder = SHARED / "data" / "photos"
    for name, about in json.loads((folder / "labels.json").read_text()).items():
        if about.get("imagenet_idx") is None:
            continue  # the mask is listed too
        mask = folder / "samoyed_mask.png" if name.startswith("samoyed") else None
        found.append((folder / name, about["imagenet_idx"], None, mask))
    for about in json.loads((SHARED / "data" / "boxes" / "boxes.json").read_text()):
        path = SHARED / "data" / "boxes" / about["file"]
        found.append((path, about["imagenet_idx"], about["boxes_xyxy"], None))
    found.sort(key=lambda one: one[0].name)
    return tuple(Photo(*one, tune=number % 3 == 0) for number, one in enumerate(found))


@dataclass(frozen=True)
class Tensors:
    """A network's layer on N photos and M mosaics.

    images float32 (N, 3, H, W); probabilities (N, K); label, top, second int64 (N,): the photo's class, the
    network's first, and the first that is not `label`. a, g_label, g_top, g_second float32 (N, C, h, w). regions bool
    (N, H, W), empty where nothing is known.
    mosaics int64 (M, 4): photo numbers; ma (M, C, h, w); mg (M, 4, C, h, w): gradient for each cell's class.
    """

    images: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    label: NDArray[np.int64]
    top: NDArray[np.int64]
    second: NDArray[np.int64]
    a: NDArray[np.float32]
    g_label: NDArray[np.float32]
    g_top: NDArray[np.float32]
    g_second: NDArray[np.float32]
    regions: NDArray[np.bool_]
    mosaics: NDArray[np.int64]
    ma: NDArray[np.float32]
    mg: NDArray[np.float32]


def tensors(network: Network, layer: str) -> Tensors:
    """From the kept file, or computed."""
    kept = FILES / f"{network.name}.{layer}.npz"
    if not kept.exists():
        made = _compute(network, layer)
        part = kept.with_suffix(".part.npz")
        np.savez(part, **{field.name: getattr(made, field.name) for field in fields(made)})
        part.replace(kept)
    with np.load(kept) as found:
        return Tensors(**{field.name: found[field.name] for field in fields(Tensors)})


def _compute(network: Network, layer: str) -> Tensors:
    every = photos()
    with Explainer(network.file(layer), threads=1) as explainer:
        access = EngineAccess(explainer, "gradcam")
        images, frames = access.load([photo.path for photo in every])
        regions = []
        for photo, frame in zip(every, frames, strict=True):
            if photo.boxes is not None:
                regions.append(box_region(photo.boxes, frame))
            elif photo.mask is not None:
                regions.append(mask_region(np.asarray(Image.open(photo.mask)) == 0, frame))
            else:
                regions.append(np.zeros(images.shape[2:], np.bool_))
        p = np.concatenate([access.predict(part) for part in np.array_split(images, 5)])
        label = np.array([photo.index for photo in every]) + network.offset
        order = np.argsort(-p, axis=1)
        top = order[:, 0]
        second = np.where(order[:, 0] == label, order[:, 1], order[:, 0])

        def both(x: NDArray[Any], classes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            parts = [access.tensors(x[i : i + 5], classes[i : i + 5]) for i in range(0, len(x), 5)]
            return np.concatenate([one.activations for one in parts]), np.concatenate([one.gradients for one in parts])

        a, g_label = both(images, label)
        known = p[np.arange(len(p)), label]
        groups = _groups(known, label)
        mosaics = np.stack([make_mosaic(images[group]) for group in groups]) if len(groups) else images[:0]
        cells = [both(mosaics, label[groups[:, cell]]) for cell in range(4)]
        return Tensors(
            images=images,
            probabilities=p,
            label=label,
            top=top,
            second=second,
            a=a,
            g_label=g_label,
            g_top=both(images, top)[1],
            g_second=both(images, second)[1],
            regions=np.stack(regions),
            mosaics=groups,
            ma=cells[0][0],
            mg=np.stack([gradient for _, gradient in cells], axis=1),
        )


def _groups(known: NDArray[Any], label: NDArray[Any]) -> NDArray[np.int64]:
    """Groups of four photos of different classes, never of both halves."""
    rng = np.random.default_rng(0)
    tune = np.array([photo.tune for photo in photos()])
    groups: list[list[int]] = []
    for half in (True, False):
        usable = np.flatnonzero((known >= CONFIDENCE) & (tune == half))
        for _ in range(GROUPINGS):
            left = [int(i) for i in rng.permutation(usable)]
            while True:
                group: list[int] = []
                for i in left:
                    if label[i] not in label[group] and len(group) < 4:
                        group.append(i)
                if len(group) < 4:
                    break
                groups.append(group)
                left = [i for i in left if i not in group]
    return np.array(groups, np.int64).reshape(-1, 4)
