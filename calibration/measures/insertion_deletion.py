"""The class's probability while pixels appear, or vanish, in the map's order.

Petsiuk et al., "RISE", BMVC 2018, arXiv 1806.07421.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from ...runtime.methods.cfcam.filtering import gaussian
from .base import Images, Maps, Measure, Predict, check_classes, check_images, check_maps, predicted, slices

__all__ = ["Curves", "Fill", "InsertionDeletion", "fill_images", "insertion_deletion"]

#: What stands where the image does not: the image blurred, or its mean colour.
Fill = Literal["blur", "mean"]

# Width of the blur as a share of the shorter side: 10 pixels of 224, as Fong and Vedaldi,
# "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017, take.
_BLUR = 10 / 224

# In place of a curve's number, 0 for insertion and 1 for deletion: the two images that curves share.
_WHOLE, _FILL = -1, -2


@dataclass(frozen=True, eq=False)
class Curves:
    """Probabilities along the way, float64 (N, T), at `fractions` (T,) of the pixels, from 0 to 1.

    insertion: that share of the pixels is shown; deletion: it is gone.
    """

    fractions: NDArray[np.float64]
    insertion: NDArray[np.float64]
    deletion: NDArray[np.float64]

    def area(self, curve: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area under each row of `curve`, by trapezoids: the mean probability along the way."""
        return ((curve[:, 1:] + curve[:, :-1]) / 2 * np.diff(self.fractions)).sum(axis=1)

    def areas(self) -> dict[str, NDArray[np.float64]]:
        """The areas (N,) under both curves, and their difference, by the names of the measure's columns."""
        insertion, deletion = self.area(self.insertion), self.area(self.deletion)
        return {"insertion": insertion, "deletion": deletion, "insertion_deletion": insertion - deletion}


def fill_images(images: ArrayLike, fill: Fill = "blur") -> Images:
    """What is under the pixels, of the shape of `images` (N, C, H, W).

    ``blur``: a Gaussian of 10 pixels at 224, reflected at the borders; ``mean``: each channel's mean over
    the image. Blur is nearer to what the network knows, and leaves colours that may suffice for
    a class; the mean leaves nothing, and sharp edges around what is shown.
    """
    values = check_images(images)
    if fill == "mean":
        return np.broadcast_to(values.mean(axis=(2, 3), keepdims=True), values.shape)
    if fill == "blur":
        sigma = _BLUR * min(values.shape[2:])
        return np.stack([gaussian(image.astype(np.float32), sigma) for image in values]).astype(values.dtype)
    raise ArrayError(f"fill: expected one of {', '.join(map(repr, get_args(Fill)))}, got {fill!r}")


def insertion_deletion(
    predict: Predict,
    images: ArrayLike,
    classes: ArrayLike,
    maps: ArrayLike,
    *,
    fill: Fill = "blur",
    steps: int = 32,
    batch: int = 32,
) -> Curves:
    """Both curves for N maps, in `steps` equal parts of the pixels, highest values first.

    images: (N, C, H, W), or (1, C, H, W) for N maps of one image, which then share the fill and both ends
    of the curves; classes: int (N,); maps: (N, H, W) in [0, 1]. Pixels of equal value come in
    reading order, as in torch-cam; the flat part of a map is judged by that order. Every
    perturbed image is made when its batch comes, in an array that the next batch overwrites: memory
    does not grow with N * steps, and `predict` must not keep what it is given. Raises
    `ArrayError` and `TargetError`.
    """
    x = check_images(images)
    planes = check_maps(maps)
    if len(x) not in (1, len(planes)) or x.shape[2:] != planes.shape[1:]:
        raise ArrayError(
            f"maps: expected a map of {x.shape[2]} x {x.shape[3]} for each of {len(x)} images, or any number of one "
            f"image, got shape {planes.shape}"
        )
    count, pixels = len(planes), planes[0].size
    wanted = check_classes(classes, count)
    if not 1 <= steps <= pixels:
        raise ArrayError(f"steps: expected 1 to {pixels}, the number of pixels, got {steps}")
    under = fill_images(x, fill)
    order = np.argsort(-planes.reshape(count, -1), axis=1, kind="stable")
    ranks = np.argsort(order, axis=1).astype(np.int32).reshape(planes.shape)
    counts = np.rint(np.linspace(0, pixels, steps + 1)).astype(np.int64)

    source = [0] * count if len(x) == 1 else list(range(count))
    curves = np.empty((2, count, steps + 1))
    # The whole image ends the insertion and begins the deletion; the fill, the other way round.
    jobs: list[tuple[int, int, int]] = [(_WHOLE, i, 0) for i in range(len(x))] + [(_FILL, i, 0) for i in range(len(x))]
    jobs += [(curve, m, t) for m in range(count) for curve in (0, 1) for t in range(1, steps)]
    buffer = np.empty((max(1, min(batch, len(jobs))), *x.shape[1:]), x.dtype)
    for part in slices(len(jobs), batch):
        some = jobs[part]
        for place, (curve, m, t) in enumerate(some):
            picture = buffer[place]
            if curve in (_WHOLE, _FILL):
                picture[...] = x[m] if curve == _WHOLE else under[m]
            else:
                above, below = (x, under) if curve == 0 else (under, x)
                picture[...] = below[source[m]]
                np.copyto(picture, above[source[m]], where=ranks[m] < counts[t])
        p = predicted(predict, buffer[: len(some)])
        known = check_classes(wanted, count, p.shape[1])
        for row, (curve, m, t) in zip(p, some, strict=True):
            if curve in (_WHOLE, _FILL):
                of = [map_index for map_index, image in enumerate(source) if image == m]
                first, last = (0, -1) if curve == _FILL else (-1, 0)
                curves[0, of, first] = curves[1, of, last] = row[known[of]]
            else:
                curves[curve, m, t] = row[known[m]]
    return Curves(counts / pixels, curves[0], curves[1])


class InsertionDeletion(Measure):
    """Areas under the insertion curve (higher is better) and the deletion curve (lower is better).

    Columns ``insertion``, ``deletion`` and ``insertion_deletion``, the first less the second. predict:
    images -> probabilities. fill, steps: as in `insertion_deletion`; both belong to every figure that
    is reported. batch: images at once.

    Rewards an order in which few pixels make the class, and few unmake it. Only the order
    counts: no monotone change of a map moves it. Gamed by scattered pixels, which destroy an
    image faster than a region does, and by a fill that the network takes for another class; the
    difference of the two areas, with both fills, is harder to game than either. Part of the curve is the
    network's own robustness, the same for every method.
    """

    def __init__(self, predict: Predict, *, fill: Fill = "blur", steps: int = 32, batch: int = 32) -> None:
        super().__init__({"insertion": "higher", "deletion": "lower", "insertion_deletion": "higher"})
        self._predict = predict
        self._how: dict[str, Any] = {"fill": fill, "steps": steps, "batch": batch}

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W); classes: int (N,); maps of them: (N, H, W) in [0, 1]. Returns N values each."""
        return self._keep(**insertion_deletion(self._predict, images, classes, maps, **self._how).areas())
