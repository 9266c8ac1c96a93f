"""The clusters of channels, batched: DBSCAN from operators that TensorRT takes.

A row's similarity to another is the product of two unit rows. One side of the product is scaled by 2**100, so that
"radius less similarity" is not positive where two channels are neighbours, and larger than any number of a channel
where they are not: of the larger of that and a label the least over a row is the least label among its neighbours, and
no condition is needed. ``docs/fused.md`` shows why the labels are those of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...runtime.methods.cfcam.grouping import EPS_FLOOR
from ...runtime.methods.cfcam.method import CfcamSettings
from ..reverse.emitter import Emitter, Value
from .arithmetic import FLOAT, INT, gather_rows, maximum, minimum, number, ratio, total

__all__ = ["NOTHING", "SCALE", "Clusters", "Components", "Near", "cluster", "near", "neighbours"]

#: Of similarities: exact, being a power of two, and far from float32's ends.
SCALE = 2.0**100
#: A label that stands for none: above every number of a channel.
NOTHING = 2.0**14
#: What is taken off the similarity to a dead channel: more than any similarity.
_NEVER = 4.0
#: Radii this close to a right angle are set beside it: there float32 is too fine for `SCALE`.
_AT_RIGHT_ANGLES = 2.0**-40


@dataclass(frozen=True)
class Clusters:
    """The clusters of a batch's channels. C channels, K of them compared with one another.

    roots: float32 (N, C), for each channel the number of its cluster, which is the place among the K of the cluster's
    first core channel; without meaning for dead channels, and where there are no clusters. live: float32 (N, C). found:
    float32 (N, 1), 1 where there are clusters; otherwise each live channel stands for itself. present: float32 (N, K),
    1 at the numbers that clusters have.
    """

    roots: Value
    live: Value
    found: Value
    present: Value


@dataclass(frozen=True)
class Near:
    """Who is near to whom. far: float32 (N, K, K), not positive for neighbours, above `NOTHING` for others. core:
    float32 (N, K). places: float32 (1, K), 0 to K - 1."""

    far: Value
    core: Value
    places: Value


#: (emitter, near) -> float32 (N, K): for each core channel the least place in its component, `NOTHING` for others.
Components = Callable[[Emitter, Near], Value]


def cluster(e: Emitter, rows: Value, settings: CfcamSettings, most: int, components: Components) -> Clusters:
    """The clusters of `rows` float32 (N, C, D). most: how many are compared with one another."""
    count = int(rows.dims[1] or 0)
    norms = e("Sqrt", total(e, rows * rows, [2]))
    live = number(e, norms > e.reduce("ReduceMax", norms, [1]) * settings.live_threshold)
    unit = rows / e.unsqueeze(norms + (1.0 - live) * 2.0**60, [2])
    chosen = None if most == count else _strongest(e, norms, most)
    some = unit if chosen is None else gather_rows(e, unit, chosen)
    alive = live if chosen is None else e("GatherElements", live, chosen, axis=1)
    around = near(e, some, alive, settings)
    least = components(e, around)
    reached = neighbours(e, around, least)  # border channels too: the least cluster that reaches them
    member = number(e, reached < NOTHING / 2) * alive
    found = e.reduce("ReduceMax", member, [1]) * number(e, total(e, live, [1], keepdims=True) > 1.5)
    places = around.places
    present = number(e, reached.equals(places)) * member
    adopted = _nearest_centroid(e, unit, some, reached, present, member)
    if chosen is None:
        return Clusters(member * reached + (1.0 - member) * adopted, live, found, present)
    here = e("GatherElements", adopted, chosen, axis=1)
    own = member * reached + (1.0 - member) * here
    return Clusters(e("ScatterElements", adopted, chosen, own, axis=1, shape=adopted.shape), live, found, present)


def _strongest(e: Emitter, norms: Value, most: int) -> Value:
    """int64 (N, most): the places of the largest, in order; of equal ones the first."""
    batch = norms.dims[0]
    k = e.ints([most])
    _, places = e.many("TopK", norms, k, outputs=2, axis=1, shapes=[(batch, most)] * 2)
    ordered, _ = e.many(
        "TopK", e.cast(places, FLOAT), k, outputs=2, axis=1, largest=0, sorted=1, shapes=[(batch, most)] * 2
    )
    return e.cast(ordered, INT)


def near(e: Emitter, unit: Value, alive: Value, settings: CfcamSettings) -> Near:
    """Who is near to whom among unit rows (N, K, D), of which `alive` (N, K) count."""
    batch, count, _ = unit.dims
    assert isinstance(count, int)
    left = e("Pad", unit * SCALE, e.ints([0, 0, 0, 0, 0, 1]), e.constant(np.array(SCALE, np.float32)))
    right = e("Concat", unit, e.unsqueeze((alive - 1.0) * _NEVER, [2]), axis=2)
    likeness = e("MatMul", left, e.transpose(right, [0, 2, 1]), shape=(batch, count, count))
    rank = min(max(settings.neighbour + 1, settings.min_samples), count)
    largest, _ = e.many("TopK", likeness, e.ints([rank]), outputs=2, axis=2, shapes=[(batch, count, rank)] * 2)
    # Itself counted, the first of a row is no neighbour. Where there are fewer, the last one that there is.
    nearest = e.slice(largest, 2, 0, min(settings.neighbour + 1, rank), length=min(settings.neighbour + 1, rank))
    gone = number(e, nearest < -2.0 * SCALE) * (16.0 * SCALE)
    farthest = e.reduce("ReduceMin", nearest + gone, [2], keepdims=False)
    middle = _median(e, farthest, alive)
    radius = minimum(e, middle, (1.0 - EPS_FLOOR) * SCALE)
    edge = number(e, e("Abs", radius) < _AT_RIGHT_ANGLES * SCALE)
    radius = radius * (1.0 - edge) - edge * (_AT_RIGHT_ANGLES * SCALE)
    far = e.unsqueeze(radius, [2]) - likeness
    least = e.slice(largest, 2, settings.min_samples - 1, settings.min_samples, length=1)
    core = 1.0 - number(e, e.squeeze(least, [2]) < radius)
    return Near(far, core * alive, e.constant(np.arange(count, dtype=np.float32)[None]))


def _median(e: Emitter, values: Value, alive: Value) -> Value:
    """float32 (N, 1): of `values` (N, K) those that are alive; of an even number the mean of the middle two."""
    batch, count = values.dims
    assert isinstance(count, int)
    shown = values + (alive - 1.0) * (64.0 * SCALE)
    ordered, _ = e.many("TopK", shown, e.ints([count]), outputs=2, axis=1, shapes=[(batch, count)] * 2)
    number_alive = total(e, alive, [1], keepdims=True)
    places = e.constant(np.arange(count, dtype=np.float32)[None])
    lower, upper = (number(e, places.equals(e("Floor", (number_alive - offset) * 0.5))) for offset in (1.0, 0.0))
    return total(e, ordered * 0.5 * (lower + upper), [1], keepdims=True)


def neighbours(e: Emitter, around: Near, labels: Value) -> Value:
    """float32 (N, K): the least of `labels` (N, K) among each channel's neighbours; `NOTHING` where there is none."""
    least = e.reduce("ReduceMin", maximum(e, around.far, e.unsqueeze(labels, [1])), [2], keepdims=False)
    return minimum(e, least, NOTHING)


def _nearest_centroid(e: Emitter, unit: Value, some: Value, reached: Value, present: Value, member: Value) -> Value:
    """float32 (N, C): for each of the unit rows (N, C, D) the cluster whose centroid is nearest; the first of several.

    some, reached, present, member: of the K rows that were compared.
    """
    _batch, count, _ = some.dims
    assert isinstance(count, int)
    numbers = e.constant(np.arange(count, dtype=np.float32)[None, :, None])
    belongs = number(e, e.unsqueeze(reached, [1]).equals(numbers)) * e.unsqueeze(member, [1])
    centroids = e("MatMul", belongs, some)
    length = e("Sqrt", total(e, centroids * centroids, [2], keepdims=True))
    centroids = ratio(e, centroids, length)
    right = e("Concat", centroids, e.unsqueeze((present - 1.0) * _NEVER, [2]), axis=2)
    left = e("Pad", unit, e.ints([0, 0, 0, 0, 0, 1]), e.constant(np.array(1, np.float32)))
    likeness = e("MatMul", left, e.transpose(right, [0, 2, 1]))
    return e.cast(e("ArgMax", likeness, axis=2, keepdims=0), FLOAT)
