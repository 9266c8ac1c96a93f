"""The class's probability while pixels appear, or vanish, in the map's order.

Petsiuk et al., "RISE", BMVC 2018, arXiv 1806.07421.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from ...runtime.methods.filtering import gaussian
from .base import Images, Maps, Measure, Predict, check_classes, check_images, check_maps, predicted, slices

__all__ = ["Curves", "Fill", "InsertionDeletion", "fill_images", "insertion_deletion"]

#: What stands where the image does not: the image blurred, or its mean colour.
Fill = Literal["blur", "mean"]

# Width of the blur as a share of the shorter side: 10 pixels of 224, as Fong and Vedaldi,
# "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017, take.
_BLUR = 10 / 224


class Curves:
    """Probabilities along the way, float64 (N, T), at `fractions` (T,) of the pixels, from 0 to 1.

    insertion: that share of the pixels is shown; deletion: it is gone.
    """

    def __init__(
        self, fractions: NDArray[np.float64], insertion: NDArray[np.float64], deletion: NDArray[np.float64]
    ) -> None:
        self.fractions = fractions
        self.insertion = insertion
        self.deletion = deletion

    def area(self, curve: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area under each row of `curve`, by trapezoids: the mean probability along the way."""
        return ((curve[:, 1:] + curve[:, :-1]) / 2 * np.diff(self.fractions)).sum(axis=1)


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
    """Both curves for N images, in `steps` equal parts of the pixels, highest values first.

    images: (N, C, H, W); classes: int (N,); maps: (N, H, W) in [0, 1]. Pixels of equal value come in
    reading order, as in torch-cam; the flat part of a map is judged by that order. Every
    perturbed image is made when its batch comes: memory does not grow with N * steps. Raises
    `ArrayError` and `TargetError`.
    """
    x = check_images(images)
    planes = check_maps(maps, (len(x), *x.shape[2:]))
    wanted = check_classes(classes, len(x))
    pixels = planes[0].size
    if not 1 <= steps <= pixels:
        raise ArrayError(f"steps: expected 1 to {pixels}, the number of pixels, got {steps}")
    under = fill_images(x, fill)
    order = np.argsort(-planes.reshape(len(x), -1), axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(pixels, dtype=np.int32)[None], axis=1)
    ranks = ranks.reshape(planes.shape)

    counts = np.rint(np.linspace(0, pixels, steps + 1)).astype(np.int64)
    curves = np.empty((2, len(x), steps + 1))
    # The whole image ends the insertion and begins the deletion; the fill, the other way round.
    jobs = [(0, i, t) for i in range(len(x)) for t in range(steps + 1)]
    jobs += [(1, i, t) for i in range(len(x)) for t in range(1, steps)]
    for part in slices(len(jobs), batch):
        some = jobs[part]
        p = predicted(predict, np.stack(list(_perturbed(x, under, ranks, counts, some))))
        of = check_classes([wanted[i] for _, i, _ in some], len(some), p.shape[1])
        for row, (curve, i, t) in enumerate(some):
            curves[curve, i, t] = p[row, of[row]]
    curves[1, :, 0], curves[1, :, -1] = curves[0, :, -1], curves[0, :, 0]
    return Curves(counts / pixels, curves[0], curves[1])


def _perturbed(
    x: Images, under: Images, ranks: NDArray[np.int32], counts: NDArray[np.int64], jobs: list[tuple[int, int, int]]
) -> Iterator[Images]:
    for curve, i, t in jobs:
        top = ranks[i] < counts[t]
        yield np.where(top, x[i], under[i]) if curve == 0 else np.where(top, under[i], x[i])


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
        self._fill: Fill = fill
        self._steps = steps
        self._batch = batch

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W); classes: int (N,); maps of them: (N, H, W) in [0, 1]. Returns N values each."""
        curves = insertion_deletion(
            self._predict, images, classes, maps, fill=self._fill, steps=self._steps, batch=self._batch
        )
        insertion, deletion = curves.area(curves.insertion), curves.area(curves.deletion)
        return self._keep(insertion=insertion, deletion=deletion, insertion_deletion=insertion - deletion)
