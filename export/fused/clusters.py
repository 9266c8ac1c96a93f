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
from ..graph.graph import Dim
from ..reverse.emitter import Emitter, Value
from .arithmetic import FLOAT, INT, as_index, gather_rows, maximum, minimum, number, places, ratio, total

__all__ = ["NOTHING", "SCALE", "Clusters", "Components", "Near", "cluster", "near", "neighbours"]

#: Name of the axis of the channels that are compared, where the data say how many they are.
PACKED = "cam_packed"
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

    roots: float32 (N, C), for each channel the number of its cluster; without meaning for dead channels, and where
    there are no clusters. live: float32 (N, C). found: float32 (N, 1), 1 where there are clusters; otherwise each live
    channel stands for itself. present: float32 (N, S), 1 at the numbers that clusters have. numbers: float32 (1, S), 0
    to S - 1.

    In the form ``static`` S is K, and a number is the place among the K of the cluster's first core channel. In the
    form ``cpu`` clusters are counted in that order, and S is how many there are, at least 1.
    """

    roots: Value
    live: Value
    found: Value
    present: Value
    numbers: Value


@dataclass(frozen=True)
class Near:
    """Who is near to whom. far: float32 (N, K, K), not positive for neighbours, above `NOTHING` for others. core:
    float32 (N, K). places: float32 (1, K), 0 to K - 1."""

    far: Value
    core: Value
    places: Value


#: (emitter, near) -> float32 (N, K): for each core channel the least place in its component, `NOTHING` for others.
Components = Callable[[Emitter, Near], Value]


def cluster(
    e: Emitter, rows: Value, settings: CfcamSettings, most: int, components: Components, *, packed: bool = False
) -> Clusters:
    """The clusters of `rows` float32 (N, C, D). most: how many are compared with one another, at most.

    packed: of one image, N = 1: as many are compared as are live, and there are as many sums as clusters.
    """
    count = int(rows.dims[1] or 0)
    rank = min(max(settings.neighbour + 1, settings.min_samples), most)
    norms = e("Sqrt", total(e, rows * rows, [2]))
    live = number(e, norms > e.reduce("ReduceMax", norms, [1]) * settings.live_threshold)
    unit = rows / e.unsqueeze(norms + (1.0 - live) * 2.0**60, [2])
    chosen: Value | None = None
    if packed:
        chosen = _live(e, norms, live, most, rank)
    elif most < count:
        chosen = _strongest(e, norms, e.ints([most]), most)
    some = unit if chosen is None else gather_rows(e, unit, chosen)
    alive = live if chosen is None else e("GatherElements", live, chosen, axis=1)
    around = near(e, some, alive, settings, rank)
    least = components(e, around)
    reached = neighbours(e, around.far, least)  # border channels too: the least cluster that reaches them
    member = number(e, reached < NOTHING / 2) * alive
    found = e.reduce("ReduceMax", member, [1]) * number(e, total(e, live, [1], keepdims=True) > 1.5)
    numbers = around.places
    present = number(e, reached.equals(numbers)) * member
    if packed:
        reached, numbers = _counted(e, reached, present)
        present = numbers * 0.0 + 1.0
    adopted = _nearest_centroid(e, unit, some, reached, None if packed else present, member, numbers)
    if chosen is None:
        return Clusters(member * reached + (1.0 - member) * adopted, live, found, present, numbers)
    here = e("GatherElements", adopted, chosen, axis=1, shape=reached.shape)
    own = member * reached + (1.0 - member) * here
    roots = e("ScatterElements", adopted, chosen, own, axis=1, shape=adopted.shape)
    return Clusters(roots, live, found, present, numbers)


def _strongest(e: Emitter, norms: Value, how_many: Value, size: Dim) -> Value:
    """int64 (N, how_many): the places of the largest, in order; of equal ones the first. size: of that axis."""
    shapes = [(norms.dims[0], size)] * 2
    _, taken = e.many("TopK", norms, how_many, outputs=2, axis=1, shapes=shapes)
    ordered, _ = e.many("TopK", e.cast(taken, FLOAT), how_many, outputs=2, axis=1, largest=0, sorted=1, shapes=shapes)
    return e.cast(ordered, INT)


def _live(e: Emitter, norms: Value, live: Value, most: int, least: int) -> Value:
    """int64 (1, K): the places of an image's live channels, in order, of more than `most` the strongest. Where fewer
    than `least` are live some dead ones make up for them, so that no size is too small for what follows."""
    count = int(norms.dims[1] or 0)
    if most < count:
        alive = e.cast(total(e, live, [1]), INT)
        return _strongest(e, norms, minimum(e, maximum(e, alive, least), most), PACKED)
    padding = e.constant((np.arange(count) < least).astype(np.float32)[None])
    taken = e("Greater", e.squeeze(maximum(e, live, padding), [0]), e.as_value(0.5, live.kind))
    kept = e("Compress", e.constant(np.arange(count, dtype=np.int64)), taken, axis=0, shape=(PACKED,))
    return e.unsqueeze(kept, [0])


def _counted(e: Emitter, roots: Value, present: Value) -> tuple[Value, Value]:
    """`roots` (1, K), numbers as in `present` (1, K), counted from 0 without gaps; and float32 (1, S), those counts."""
    order = e("CumSum", present, e.constant(np.array(1, np.int64)), shape=present.shape) - 1.0
    counted = e("GatherElements", order, as_index(e, roots, e.dim(roots, 1)), axis=1, shape=roots.shape)
    how_many = e.cast(total(e, present, [0, 1]), INT)
    return counted, places(e, maximum(e, how_many, 1))


def near(e: Emitter, unit: Value, alive: Value, settings: CfcamSettings, rank: int) -> Near:
    """Who is near to whom among unit rows (N, K, D), of which `alive` (N, K) count.

    rank: how many of the largest similarities are looked at, at most K.
    """
    batch, count, _ = unit.dims
    left = e("Pad", unit * SCALE, e.ints([0, 0, 0, 0, 0, 1]), e.constant(np.array(SCALE, np.float32)))
    right = e("Concat", unit, e.unsqueeze((alive - 1.0) * _NEVER, [2]), axis=2)
    likeness = e("MatMul", left, e.transpose(right, [0, 2, 1]), shape=(batch, count, count))
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
    return Near(far, core * alive, places(e, e.dim(alive, 1)))


def _median(e: Emitter, values: Value, alive: Value) -> Value:
    """float32 (N, 1): of `values` (N, K) those that are alive; of an even number the mean of the middle two."""
    shown = values + (alive - 1.0) * (64.0 * SCALE)
    count = e.dim(values, 1)
    ordered, _ = e.many("TopK", shown, e.vector(count), outputs=2, axis=1, shapes=[values.dims] * 2)
    number_alive = total(e, alive, [1], keepdims=True)
    line = places(e, count)
    lower, upper = (number(e, line.equals(e("Floor", (number_alive - offset) * 0.5))) for offset in (1.0, 0.0))
    return total(e, ordered * 0.5 * (lower + upper), [1], keepdims=True)


def neighbours(e: Emitter, far: Value, labels: Value) -> Value:
    """float32 (N, R): the least of `labels` (N, K) among the neighbours of each of R channels; `NOTHING` where there
    is none. far: float32 (N, R, K), as in `Near`."""
    least = e.reduce("ReduceMin", maximum(e, far, e.unsqueeze(labels, [1])), [2], keepdims=False)
    return minimum(e, least, NOTHING)


def _nearest_centroid(
    e: Emitter, unit: Value, some: Value, reached: Value, present: Value | None, member: Value, numbers: Value
) -> Value:
    """float32 (N, C): for each of the unit rows (N, C, D) the cluster whose centroid is nearest; the first of several.

    some, reached, member: of the K rows that were compared. present, numbers: as in `Clusters`; None: all are.
    """
    belongs = number(e, e.unsqueeze(reached, [1]).equals(e.unsqueeze(numbers, [2]))) * e.unsqueeze(member, [1])
    centroids = e("MatMul", belongs, some)
    centroids = ratio(e, centroids, e("Sqrt", total(e, centroids * centroids, [2], keepdims=True)))
    if present is None:
        return e.cast(e("ArgMax", e("MatMul", unit, e.transpose(centroids, [0, 2, 1])), axis=2, keepdims=0), FLOAT)
    right = e("Concat", centroids, e.unsqueeze((present - 1.0) * _NEVER, [2]), axis=2)
    left = e("Pad", unit, e.ints([0, 0, 0, 0, 0, 1]), e.constant(np.array(1, np.float32)))
    likeness = e("MatMul", left, e.transpose(right, [0, 2, 1]))
    return e.cast(e("ArgMax", likeness, axis=2, keepdims=0), FLOAT)
