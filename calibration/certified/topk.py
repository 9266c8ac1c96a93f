"""The largest change of the image under which the map's top cells provably stay on top."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...export.graph import Graph, load_model
from ...export.tail.cutting import open_exported
from ...runtime.contract.spec import CamSpec
from ...runtime.errors import MethodError
from ...runtime.explainer import Explainer
from ..measures.base import Measure, check_classes, check_images
from .bounds import IntervalNetwork
from .registry import Arithmetic, Bounds

__all__ = ["METHODS", "Certificate", "CertifiedTopK"]

#: Methods whose map is ReLU(sum_k w_k A_k), with weights that depend on the gradients alone.
METHODS = ("gradcam", "hirescam", "layercam")

#: Exponents of two between which the radius is sought, in preprocessed units.
_SMALLEST, _LARGEST = -60, 8


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was proved about one image.

    radius: of the L-infinity ball, in preprocessed units. grey_levels: of the largest ball in levels of 0..255,
    the same for all colours, that lies inside. cells: int64 (k, 2), row and column of the top cells on the
    layer's grid. gap: by how much the last of them is above the others (and zero), over the map's maximum.
    reason: why nothing is proved, or None.
    """

    radius: float
    grey_levels: float
    cells: NDArray[np.int64]
    gap: float
    reason: str | None = None


class CertifiedTopK(Measure):
    """Certified top-k of a map on its grid (CORGI: Gu et al. 2023, arXiv 2301.11324).

    For an image x, a class, and S the k highest cells of the map: the largest r, found by bisection, for which

        min over S of low(map) > max(0, max over the others of high(map))    on all x' with |x' - x|_inf <= r

    with low and high from `IntervalNetwork`. Then S is the top-k of every map in the ball, and no cell of S is
    zero. The order inside S is free, and the class is held, whatever becomes of the prediction. Columns
    ``certified_radius`` (preprocessed units) and ``certified_grey_levels``; higher is better. NaN where the clean
    map has no top-k (fewer than k cells above zero, or a tie); 0 where rounding alone makes the bounds too wide.

    explainer: of the file; it stays the caller's to close. method: one of `METHODS`, and only where the gradient does
    not depend on the image: in the last layer before pooling and a linear head. There the map is one more affine
    layer, whose weights are exact. `cfcam` groups channels by their activations: its weights jump when a channel
    changes its cluster, no interval holds that, and it is refused. k: number of cells. arithmetic: see
    `ARITHMETICS`; ``float32`` holds for the engine, ``real`` for the network as a function of real numbers only (the
    weights of the map are the engine's in both). precision: of the radius, relative.

    Rewards maps whose top cells stand out, and networks whose weights are small: the figure is the network's more
    than the method's, so that figures of two networks do not compare. It is a lower bound, and interval bounds are
    loose: each layer multiplies the radius by its sums of absolute weights. Networks of a few layers get a figure
    within an order of magnitude of what attacks find; **deep networks get 0**, which says that nothing was
    proved, not that the map is unstable. Gamed by k (there is a gap somewhere), by a class-blind map, and by a
    network that is flat.

    Raises `MethodError` (method, layer, k, arithmetic or precision) and `UnsupportedOperatorError` (an operator
    without bounds).
    """

    def __init__(
        self,
        explainer: Explainer,
        method: str = "gradcam",
        *,
        k: int = 5,
        arithmetic: str = "float32",
        precision: float = 0.01,
    ) -> None:
        super().__init__({"certified_radius": "higher", "certified_grey_levels": "higher"})
        spec = explainer.spec
        _check(spec, method, k, precision)
        model = load_model(explainer.path)
        if _depends_on_image(open_exported(model), spec):
            raise MethodError(
                f"{explainer.path}: the gradient at layer '{spec.layer.name}' depends on the image, so the weights "
                f"of '{method}' are not known exactly: certified top-k needs the layer before pooling and a linear head"
            )
        self._network = IntervalNetwork(model, spec.input.name, [spec.layer.activations], arithmetic=arithmetic)
        batch = (self._network.graph.shape(spec.input.name) or (None,))[0]
        self._batch = batch if isinstance(batch, int) else 1
        self._explainer, self._spec = explainer, spec
        self._method, self._k, self._precision = method, k, precision

    def update(self, images: ArrayLike, classes: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W) preprocessed; classes: int (N,). Returns N values of each column."""
        x = check_images(images)
        wanted = check_classes(classes, len(x), self._spec.output.classes)
        found = [self.certify(image, int(index)) for image, index in zip(x, wanted, strict=True)]
        return self._keep(
            certified_radius=[one.radius for one in found], certified_grey_levels=[one.grey_levels for one in found]
        )

    def certify(self, image: ArrayLike, target: int) -> Certificate:
        """One image (C, H, W), preprocessed. Raises `ArrayError`."""
        x = check_images(np.asarray(image, self._spec.input.dtype)[None])
        if self._spec.input.layout == "NHWC":
            x = x.transpose(0, 2, 3, 1)
        tensors = self._explainer.tensors(x, [target])
        weights = _weights(tensors.gradients[0], self._method)
        scores = (weights[0] * tensors.activations[0]).sum(axis=0, dtype=np.float64)
        order = np.argsort(-scores, axis=None, kind="stable")
        top, rest = order[: self._k], order[self._k :]
        cells = np.stack(np.unravel_index(top, scores.shape), axis=1).astype(np.int64)
        last, next_best = float(scores.flat[top[-1]]), max(0.0, float(scores.flat[rest[0]]))
        if last <= next_best:
            tie = "is not above zero" if last <= 0 else "is tied with the next one"
            return Certificate(math.nan, math.nan, cells, 0.0, f"the map's cell number {self._k} {tie}")
        gap = (last - next_best) / float(scores.max())

        def holds(radius: float) -> bool:
            low, high = self.map_bounds(x, weights, radius)
            return bool(low.flat[top].min() > max(0.0, high.flat[rest].max()))

        radius = _largest(holds, self._precision)
        if radius == 0:
            alone = not holds(0.0)
            reason = "rounding alone makes the bounds wider than the gap" if alone else "the radius is below 2**-60"
            return Certificate(0.0, 0.0, cells, gap, reason)
        return Certificate(radius, self.in_grey_levels(radius), cells, gap)

    def map_bounds(
        self, x: NDArray[Any], weights: tuple[NDArray[Any], NDArray[Any]], radius: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high (h, w) of the map before its ReLU, over the ball of `radius` around x.

        x: (1, ...) in the file's layout. weights: (C, h, w), and their magnitudes, see `_weights`.
        """
        centre = x.astype(np.float64)
        ends = (centre - radius, centre + radius) if radius else (centre, centre)
        if radius:
            ends = np.nextafter(ends[0], -np.inf), np.nextafter(ends[1], np.inf)
        many = (np.repeat(end, self._batch, axis=0) for end in ends)  # as many as a fixed batch takes
        bounds = self._network(*many)[self._spec.layer.activations]
        return _combined(Bounds(bounds.low[0], bounds.high[0]), *weights, self._network.arithmetic)

    def in_grey_levels(self, radius: float) -> float:
        """The largest change of a pixel, in levels of 0..255 and for all colours alike, that stays within `radius`."""
        return radius * min(self._spec.input.std) / self._spec.input.scale


def _check(spec: CamSpec, method: str, k: int, precision: float) -> None:
    if method == "cfcam":
        raise MethodError(
            "certified top-k: 'cfcam' groups channels by their activations, its weights jump where a channel changes "
            f"its cluster, and no interval holds that; take one of {', '.join(METHODS)}"
        )
    if method not in METHODS:
        raise MethodError(
            f"certified top-k: the weights of '{method}' depend on the activations; take one of {', '.join(METHODS)}"
        )
    if len(spec.layers) > 1:
        raise MethodError(
            f"certified top-k: the file has {len(spec.layers)} target layers, and the map of one is certified"
        )
    if spec.precision != "float32":
        raise MethodError(f"certified top-k: the file computes in {spec.precision}, bounds are known for float32 only")
    cells = spec.layer.grid[0] * spec.layer.grid[1]
    if not 0 < k < cells:
        raise MethodError(f"certified top-k: k: expected 1 to {cells - 1} of the grid's {cells} cells, got {k}")
    if not 0 < precision < 1:
        raise MethodError(f"certified top-k: precision: expected more than 0 and less than 1, got {precision!r}")


def _depends_on_image(graph: Graph, spec: CamSpec) -> bool:
    """Whether the gradient changes with the image, when the class is given. The image's size does not count."""
    seen: set[str] = set()
    waiting = [spec.layer.gradients]
    while waiting:
        name = waiting.pop()
        if name in seen or name == spec.chosen:
            continue
        seen.add(name)
        node = graph.producers.get(name)
        if node is None or node.op_type in ("Shape", "Size"):
            continue
        if node.op_type == "Where" and spec.target in node.input[1:]:
            continue  # the class that is asked for, where one is; else the top one
        waiting += [n for n in node.input if n]
    return spec.input.name in seen


def _weights(gradients: NDArray[np.floating[Any]], method: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(weights, what their rounding is proportional to), both (C, h, w), from the engine's gradients (C, h, w)."""
    g = gradients.astype(np.float64)
    if method == "gradcam":
        mean, size = g.mean(axis=(1, 2), keepdims=True), np.abs(g).mean(axis=(1, 2), keepdims=True)
        return np.broadcast_to(mean, g.shape), np.broadcast_to(size, g.shape)
    weights = np.maximum(g, 0) if method == "layercam" else g
    return weights, np.abs(weights)


def _combined(
    a: Bounds, weights: NDArray[np.float64], size: NDArray[np.float64], arithmetic: Arithmetic
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high (h, w) of the sum over channels of weights * a, as the method computes it."""
    middle = (weights * a.centre).sum(axis=0)
    spread = (np.abs(weights) * a.radius).sum(axis=0)
    terms = len(weights) + weights[0].size + 8  # the products, and the mean over the grid that the weights are
    error = arithmetic.gamma(terms) * (size * a.size).sum(axis=0) + arithmetic.tiny
    return middle - spread - error, middle + spread + error


def _largest(holds: Callable[[float], bool], precision: float) -> float:
    """The largest radius for which `holds`, up to `precision`; 0 where not even the smallest does.

    Whatever is returned was itself tried.
    """
    low, high = _SMALLEST, _LARGEST
    if not holds(2.0**low):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(2.0**middle) else (low, middle)
    good, bad = 2.0**low, 2.0**high
    while bad > good * (1 + precision):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good
