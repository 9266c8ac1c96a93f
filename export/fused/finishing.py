"""From a layer's signed maps (N, K, h, w) to the finished ones: guided by the detail layer, resized, from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...runtime.methods.cfcam.method import CfcamSettings
from ...runtime.methods.numerics.resizing import area_matrix, line_matrix
from ..reverse.emitter import Emitter, Value
from .arithmetic import both_axes, maximum, minimum, number, ratio, total

__all__ = ["finished", "guided"]


def _resized(e: Emitter, maps: Value, size: tuple[int, int]) -> Value:
    """Maps (N, K, h, w) at `size`, bilinear with half-pixel centres."""
    height, width = maps.dims[-2:]
    assert isinstance(height, int)
    assert isinstance(width, int)
    if (height, width) == size:
        return maps
    return both_axes(e, maps, line_matrix(height, size[0], False), line_matrix(width, size[1], False))


def _pooled(e: Emitter, maps: Value, size: tuple[int, int]) -> Value:
    """Maps (N, D, H, W) averaged to a grid `size` that is no finer, as `shrink` does."""
    batch, count, tall, wide = maps.dims
    assert isinstance(count, int)
    assert isinstance(tall, int)
    assert isinstance(wide, int)
    if tall % size[0] or wide % size[1]:
        return both_axes(e, maps, area_matrix(tall, size[0]), area_matrix(wide, size[1]))
    step = [tall // size[0], wide // size[1]]
    # One below the other: for pooling many channels ONNX Runtime would first put them into another order.
    column = e.reshape(maps, maps, (batch, 1, count * tall, wide))
    pooled = e("AveragePool", column, kernel_shape=step, strides=step)
    return e.reshape(pooled, maps, (batch, count, *size))


def guided(e: Emitter, signed: Value, detail: Value, settings: CfcamSettings) -> tuple[Value, Value]:
    """What `guide` makes of signed maps (N, K, h, w) and activations (N, D, H, W): the guided maps (N, K, H, W), and
    float32 (N, K) whether they can be used."""
    batch, classes, height, width = signed.dims
    _, count, tall, wide = detail.dims
    assert isinstance(height, int)
    assert isinstance(width, int)
    assert isinstance(tall, int)
    assert isinstance(wide, int)
    flat = e.reshape(detail, detail, (batch, count, tall * wide))
    norms = e("Sqrt", total(e, flat * flat, [2], keepdims=True))
    live = number(e, norms > 0.0)
    pooled = _pooled(e, detail, (height, width))
    rows = e.reshape(pooled, detail, (batch, count, height * width))
    coarse = e.transpose(e.reshape(signed, signed, (batch, classes, height * width)), [0, 2, 1])
    target = coarse - e.reduce("ReduceMean", coarse, [1])
    centred = rows - e.reduce("ReduceMean", rows, [2])
    lengths = e("Sqrt", total(e, centred * centred, [2], keepdims=True) * total(e, target * target, [1], keepdims=True))
    largest = e.reduce("ReduceMax", e("Abs", target), [1]) * 1e-6
    shaped = number(e, lengths > largest * e.reduce("ReduceMax", e("Abs", rows), [1, 2]))
    known = ratio(e, e("MatMul", centred, target), lengths) * shaped
    weights = ratio(e, known + settings.gate_offset, norms) * live
    fine = maximum(e, e("MatMul", e.transpose(weights, [0, 2, 1]), flat), 0.0)
    top = e.reduce("ReduceMax", fine, [2])
    usable = number(e, top > 0.0) * number(e, e.reduce("ReduceMin", fine, [2]) < top)
    gate = e.reshape(ratio(e, fine, top), fine, (batch, classes, tall, wide))
    alone = _resized(e, maximum(e, signed, 0.0), (tall, wide))
    return alone * (gate * (1 - settings.gate_floor) + settings.gate_floor), e.squeeze(usable, [2])


def finished(
    e: Emitter, signed: Value, size: tuple[int, int], guide: tuple[Value, Value] | None, asked: Value | None
) -> tuple[Value, Value]:
    """The maps (N, K, H, W) in [0, 1] and bool (N, K) whether they are empty.

    signed: float32 (N, K, h, w). guide: as `guided` makes it. asked: bool (N, K), whether there is such a class.
    """
    good = (e.reduce("ReduceMax", signed, [2, 3], keepdims=False) > 0.0) & _sound(e, signed)
    if guide is not None:
        good = good & _sound(e, guide[0])
    if asked is not None:
        good = good & asked
    parts = [_scaled(e, signed)]
    if guide is not None:  # one of the two is all zero
        sharp, usable = guide[0], e.unsqueeze(guide[1], [2, 3])
        parts = [parts[0] * (1.0 - usable), _scaled(e, sharp) * usable]
    shown = e.unsqueeze(number(e, good), [2, 3])
    kept = [e.where(e("Greater", e.expand(shown, part), e.as_value(0.5, part.kind)), part, 0.0) for part in parts]
    large = _summed(e, kept, size)
    return minimum(e, ratio(e, large, e.reduce("ReduceMax", large, [2, 3])), 1.0), ~good


def _sound(e: Emitter, maps: Value) -> Value:
    """bool (N, K): whether all is finite: any other value times zero is NaN, and a sum with it equals nothing."""
    return total(e, maps * 0.0, [2, 3]).equals(0.0)


def _scaled(e: Emitter, maps: Value) -> Value:
    """Maps (N, K, h, w), what is positive of them over its maximum; 0 where nothing is."""
    positive = maximum(e, maps, 0.0)
    return ratio(e, positive, e.reduce("ReduceMax", positive, [2, 3]))


def _summed(e: Emitter, maps: Sequence[Value], size: tuple[int, int]) -> Value:
    """The sum of maps (N, K, h, w) of any sizes at `size`, in one product over all their rows."""
    if len(maps) == 1:
        return _resized(e, maps[0], size)
    sides = [(int(part.dims[2] or 0), int(part.dims[3] or 0)) for part in maps]
    across = [
        part if wide == size[1] else e("MatMul", part, e.constant(_columns(wide, size[1])))
        for part, (_, wide) in zip(maps, sides, strict=True)
    ]
    rows = np.concatenate([line_matrix(tall, size[0], False) for tall, _ in sides], axis=1)
    return e("MatMul", e.constant(rows), e("Concat", *across, axis=2))


def _columns(wide: int, size: int) -> np.ndarray:
    return np.ascontiguousarray(line_matrix(wide, size, False).T)
