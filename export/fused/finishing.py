"""From a layer's signed maps (N, K, h, w) to the finished ones: guided by the detail layer, resized, from 0 to 1."""

from __future__ import annotations

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
    pooled = both_axes(e, detail, area_matrix(tall, height), area_matrix(wide, width))
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
    made = _unit(e, signed, size)
    if guide is not None:
        sharp, usable = guide
        sharpened = e.unsqueeze(usable, [2, 3])
        made = _unit(e, sharp, size) * sharpened + made * (1.0 - sharpened)
    top = e.reduce("ReduceMax", signed, [2, 3], keepdims=False)
    # NaN or infinity anywhere in the map makes its sum times zero NaN, which equals nothing.
    sound = total(e, made * 0.0, [2, 3])
    whole = total(e, signed * 0.0, [2, 3])
    good = (top > 0.0) & sound.equals(0.0) & whole.equals(0.0)
    if asked is not None:
        good = good & asked
    everywhere = e("Greater", e.expand(e.unsqueeze(number(e, good), [2, 3]), made), e.as_value(0.5, made.kind))
    return e.where(everywhere, made, 0.0), ~good


def _unit(e: Emitter, values: Value, size: tuple[int, int]) -> Value:
    """Maps (N, K, h, w) at `size`, what is positive of them over its maximum; 0 where nothing is."""
    positive = maximum(e, values, 0.0)
    scaled = ratio(e, positive, e.reduce("ReduceMax", positive, [2, 3]))
    large = _resized(e, scaled, size)
    return minimum(e, ratio(e, large, e.reduce("ReduceMax", large, [2, 3])), 1.0)
