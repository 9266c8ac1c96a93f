"""Connected components of the core channels, by least labels, in two forms.

Every round each component so far is hooked onto the least label that its members touch, and labels are then followed to
the labels of what they name. Both forms come to the same end, where no channel touches a lesser label than its own:
there the label of a component is its first core channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..reverse.emitter import Emitter, Value
from .arithmetic import FLOAT, INT, as_index, maximum, number
from .bodies import Body, loop
from .clusters import NOTHING, Near, neighbours

__all__ = ["hooked_by_masks", "hooked_by_scatter"]

#: So often labels are followed in a round. TensorRT writes out chains of lookups, each doubling the length: three are
#: harmless, and the next round goes on.
_FOLLOWED = 3


def hooked_by_masks(e: Emitter, around: Near) -> Value:
    """For TensorRT and WebGPU, batched: the least over a component is taken by a mask of K x K, not by a scatter.

    Rounds go on until nothing changes, which is after 4 to 6 of them on photos. Each lowers a label, so that there are
    never more than K.
    """
    start = around.core * around.places + (1.0 - around.core) * NOTHING

    def turn(body: Body, _number: Value, state: Sequence[Value]) -> tuple[Value, list[Value], list[Value]]:
        inner, labels = body.emitter, state[0]
        outside = (1.0 - body.outer(around.core)) * NOTHING
        touched = maximum(inner, neighbours(inner, body.outer(around.far), labels), outside)
        apart = inner("Abs", inner.unsqueeze(labels, [2]) - inner.unsqueeze(labels, [1])) * NOTHING
        hooked = maximum(inner, neighbours(inner, apart, touched), outside)
        for _ in range(_FOLLOWED):
            followed = inner(
                "GatherElements", hooked, as_index(inner, hooked, inner.dim(labels, 1)), axis=1, shape=hooked.shape
            )
            hooked = maximum(inner, followed, outside)
        lowered = inner.reduce("ReduceMax", number(inner, hooked < labels), [0, 1], keepdims=False)
        return lowered > 0.5, [hooked], []

    ends, _ = loop(e, "cam_components", _trips(e, around), [start], turn)
    return ends[0]


def hooked_by_scatter(e: Emitter, around: Near) -> Value:
    """For CPUs, one image, N = 1: only rows of core channels are looked at, and the least over a component is scattered
    to its label.

    Labels are indices here, of a channel that is no core channel its own place, which no other has as label: nothing
    need be kept in range, and a round is few nodes.
    """
    inside = e("Greater", e.squeeze(around.core, [0]), e.as_value(0.5, FLOAT))
    place = e.cast(around.places, INT)
    cores = e("Compress", e.squeeze(place, [0]), inside, axis=0, shape=("cam_cores",))
    rows = e("Gather", around.far, cores, axis=1, shape=(1, "cam_cores", around.far.dims[2]))
    outside = (1.0 - around.core) * NOTHING

    def turn(body: Body, _number: Value, state: Sequence[Value]) -> tuple[Value, list[Value], list[Value]]:
        inner, labels = body.emitter, state[0]
        chosen = body.outer(cores)
        known = maximum(inner, inner.cast(labels, FLOAT), body.outer(outside))
        touched = neighbours(inner, body.outer(rows), known)
        # What a cast makes of NaN is anybody's choice.
        least = maximum(inner, inner.cast(touched, INT), 0)
        own = inner("Gather", labels, chosen, axis=1, shape=least.shape)
        hooked = inner("ScatterElements", labels, own, least, axis=1, reduction="min", shape=labels.shape)
        for _ in range(_FOLLOWED):
            hooked = inner("GatherElements", hooked, hooked, axis=1, shape=hooked.shape)
        fallen = inner.reduce("ReduceMax", labels - hooked, [0, 1], keepdims=False)
        return fallen > 0, [hooked], []

    ends, _ = loop(e, "cam_components", _trips(e, around), [place], turn)
    return maximum(e, e.cast(ends[0], FLOAT), outside)


def _trips(e: Emitter, around: Near) -> Value:
    """int64 scalar: more rounds than there ever are."""
    count = e.dim(around.core, 1)
    return e.constant(np.array(count, np.int64)) if isinstance(count, int) else count
