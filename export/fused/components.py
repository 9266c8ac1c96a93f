"""Connected components of the core channels, by least labels, in two forms.

Every round each component so far is hooked onto the least label that its members touch, and labels are then followed to
the labels of what they name. Both forms come to the same end, where no channel touches a lesser label than its own:
there the label of a component is its first core channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..reverse.emitter import Emitter, Value
from .arithmetic import as_index, maximum, minimum, number
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

    def hook(inner: Emitter, labels: Value, touched: Value) -> Value:
        apart = inner("Abs", inner.unsqueeze(labels, [2]) - inner.unsqueeze(labels, [1])) * NOTHING
        hooked = inner.reduce("ReduceMin", maximum(inner, apart, inner.unsqueeze(touched, [1])), [2], keepdims=False)
        return minimum(inner, hooked, NOTHING)

    return _hooked(e, around, hook)


def hooked_by_scatter(e: Emitter, around: Near) -> Value:
    """For CPUs: the least over a component is scattered to its label."""

    def hook(inner: Emitter, labels: Value, touched: Value) -> Value:
        roots = as_index(inner, labels, inner.dim(labels, 1))
        nothing = inner.expand(inner.constant(np.array([[NOTHING]], np.float32)), labels)
        least = inner("ScatterElements", nothing, roots, touched, axis=1, reduction="min", shape=labels.shape)
        return inner("GatherElements", least, roots, axis=1, shape=labels.shape)

    return _hooked(e, around, hook)


def _hooked(e: Emitter, around: Near, hook: Callable[[Emitter, Value, Value], Value]) -> Value:
    """hook: (emitter, labels, least label that each channel touches) -> for each channel the least of its component's
    labels; anything for channels that are no core channels."""
    count = e.dim(around.core, 1)
    trips = e.constant(np.array(count, np.int64)) if isinstance(count, int) else count
    start = around.core * around.places + (1.0 - around.core) * NOTHING

    def turn(body: Body, _number: Value, state: Sequence[Value]) -> tuple[Value, list[Value], list[Value]]:
        inner, labels = body.emitter, state[0]
        near = Near(body.outer(around.far), body.outer(around.core), inner.constant(np.zeros((1, 1), np.float32)))
        outside = (1.0 - near.core) * NOTHING
        touched = maximum(inner, neighbours(inner, near, labels), outside)
        hooked = maximum(inner, hook(inner, labels, touched), outside)
        for _ in range(_FOLLOWED):
            followed = inner(
                "GatherElements", hooked, as_index(inner, hooked, inner.dim(labels, 1)), axis=1, shape=hooked.shape
            )
            hooked = maximum(inner, followed, outside)
        lowered = inner.reduce("ReduceMax", number(inner, hooked < labels), [0, 1], keepdims=False)
        return lowered > 0.5, [hooked], []

    ends, _ = loop(e, "cam_components", trips, [start], turn)
    return ends[0]
