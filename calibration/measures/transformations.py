"""Changes of a photo that nobody would notice: brightness, JPEG, a shift by one pixel.

The map is moved back to where the photo was before it is compared.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.contract.spec import InputSpec
from ...runtime.errors import ArrayError
from .base import Explain, Images, Maps, Measure, check_batch, explained, slices
from .noise import agreement

__all__ = ["Brightness", "Jpeg", "Shift", "Transformation", "Transformed"]


class Transformation(Protocol):
    """A change of images, and how maps of changed and unchanged images are laid on each other."""

    @property
    def name(self) -> str:
        """Names the column."""
        ...

    def apply(self, images: Images) -> Images:
        """The changed images, of the same shape."""
        ...

    def align(self, clean: Maps, changed: Maps) -> tuple[Maps, Maps]:
        """Both maps on what both images show."""
        ...


@dataclass(frozen=True)
class Brightness:
    """Pixels times `factor`, cut at 0 and 255. spec: how the images were preprocessed."""

    factor: float
    spec: InputSpec

    @property
    def name(self) -> str:
        return f"brightness_{self.factor:g}"

    def apply(self, images: Images) -> Images:
        return _from_levels(np.clip(_to_levels(images, self.spec) * self.factor, 0, 255), self.spec, images.dtype)

    def align(self, clean: Maps, changed: Maps) -> tuple[Maps, Maps]:
        return clean, changed


@dataclass(frozen=True)
class Jpeg:
    """The pixels after JPEG of `quality` (Pillow's scale, 1 to 95). spec: how the images were preprocessed."""

    quality: int
    spec: InputSpec

    @property
    def name(self) -> str:
        return f"jpeg_{self.quality}"

    def apply(self, images: Images) -> Images:
        levels = np.clip(np.rint(_to_levels(images, self.spec)), 0, 255).astype(np.uint8)
        return _from_levels(np.stack([self._one(planes) for planes in levels]), self.spec, images.dtype)

    def align(self, clean: Maps, changed: Maps) -> tuple[Maps, Maps]:
        return clean, changed

    def _one(self, planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image

        if len(planes) not in (1, 3):  # JPEG knows grey and colour
            return np.concatenate([self._one(plane[None]) for plane in planes])
        flip = self.spec.color == "bgr"
        pixels = planes[0] if len(planes) == 1 else (planes[::-1] if flip else planes).transpose(1, 2, 0)
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=self.quality)
        again = np.asarray(Image.open(buffer)).reshape(*planes.shape[1:], len(planes)).transpose(2, 0, 1)
        return again[::-1] if flip else again


@dataclass(frozen=True)
class Shift:
    """The image moved by whole pixels, to the right and down; what comes in repeats the border."""

    right: int
    down: int

    @property
    def name(self) -> str:
        return f"shift_{self.right}_{self.down}"

    def apply(self, images: Images) -> Images:
        height, width = images.shape[2:]
        rows = np.clip(np.arange(height) - self.down, 0, height - 1)
        columns = np.clip(np.arange(width) - self.right, 0, width - 1)
        return images[:, :, rows[:, None], columns[None, :]]

    def align(self, clean: Maps, changed: Maps) -> tuple[Maps, Maps]:
        y, x = self.down, self.right
        height, width = clean.shape[1:]
        rows, columns = slice(max(0, -y), height - max(0, y)), slice(max(0, -x), width - max(0, x))
        moved = slice(max(0, y), height - max(0, -y)), slice(max(0, x), width - max(0, -x))
        return clean[:, rows, columns], changed[:, moved[0], moved[1]]


class Transformed(Measure):
    """Spearman's correlation of the map with that of the changed image, same class; a column per change.

    explain: images and classes -> maps. transformations: such as `Brightness`, `Jpeg` and `Shift`,
    each with a name of its own. Higher is better. NaN where the map is constant.

    Rewards maps that follow the picture and not its pixels. A network's strides make maps move in jumps, which a
    shift by one pixel shows: part of the figure is the network's. Gamed by maps that ignore the
    image, as in `InputNoise`.
    """

    def __init__(self, explain: Explain, transformations: Sequence[Transformation], *, batch: int = 32) -> None:
        super().__init__({change.name: "higher" for change in transformations})
        if not self.columns or len(self.columns) != len(transformations):
            raise ArrayError("transformations: expected at least one, all of different names")
        self._explain = explain
        self._changes = tuple(transformations)
        self._batch = batch

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W); classes: int (N,); maps of the unchanged images. Returns N values each."""
        x, targets, clean = check_batch(images, classes, maps)
        values: dict[str, list[float]] = {name: [] for name in self.columns}
        for part in slices(len(x), self._batch):
            for change in self._changes:
                again = explained(self._explain, change.apply(x[part]), targets[part])
                pairs = zip(*change.align(clean[part], again), strict=True)
                values[change.name] += [agreement(before, after) for before, after in pairs]
        return self._keep(**values)


def _to_levels(images: Images, spec: InputSpec) -> NDArray[np.float64]:
    """Pixel values 0 to 255 of preprocessed images (N, C, H, W)."""
    return (images * _planes(spec.std) + _planes(spec.mean)) / spec.scale


def _from_levels(levels: NDArray[Any], spec: InputSpec, dtype: np.dtype[Any]) -> Images:
    return ((levels * spec.scale - _planes(spec.mean)) / _planes(spec.std)).astype(dtype)


def _planes(values: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)[:, None, None]
