"""Pooling over windows and over the whole grid.

Maximum pooling goes back without indices and without scattering: what TensorRT lacks. A
maximum over a box is a maximum along one axis after another, so each axis is undone by
itself with a handful of shifted comparisons. Ties go to the first cell in reading order, as
in PyTorch.
"""

from __future__ import annotations

import math

import numpy as np

from ..emitter import Value
from ..registry import Context, Gradients, rule
from .windows import Windows, is_static, place_windows, read_windows

__all__: list[str] = []


def _spatial(x: Value) -> list[int]:
    return list(range(2, x.rank))


@rule("GlobalAveragePool")
def global_average(c: Context) -> Gradients:
    return {0: c.e.divided_by_size(c.g, c.e.size_of(c.x(), _spatial(c.x())))}


@rule("GlobalMaxPool")
def global_max(c: Context) -> Gradients:
    return {0: _first_of_grid(c)}


def _first_of_grid(c: Context) -> Value:
    """The gradient at the first cell (in reading order) that holds the maximum of the grid."""
    e, x = c.e, c.x()
    flat = x if x.rank == 3 else e("Reshape", x, e.ints([0, 0, -1]))
    first = e("ArgMax", flat, axis=2, keepdims=1)
    size = e.size_of(x, _spatial(x))
    if isinstance(size, int):
        cells = e.constant(np.arange(size, dtype=np.int64).reshape(1, 1, -1))
    else:
        zero, one = e.constant(np.array(0, np.int64)), e.constant(np.array(1, np.int64))
        cells = e("Range", zero, size, one)
    hit = e.reshape(e("Equal", first, cells), x, x.dims)
    return e.masked(hit, c.g)


@rule("GlobalLpPool")
def global_lp(c: Context) -> Gradients:
    return {0: c.g * _lp_inner(c, c.y(), c.attr("p", 2))}


def _lp_inner(c: Context, y: Value, p: int) -> Value:
    """d/dx of (sum |x|^p)^(1/p): sign(x) |x|^(p-1) / y^(p-1), 0 where y is 0."""
    x = c.x()
    if p == 1:
        return c.e("Sign", x)
    safe = c.e.where(y > 0, y, 1.0)
    if p == 2:
        return x / safe
    return c.e("Sign", x) * c.e("Abs", x) ** (p - 1) / safe ** (p - 1)


def _covers(x: Value, y: Value, w: Windows) -> bool:
    """True when one window without padding is the whole grid."""
    sizes = [x.dims[a] for a in _spatial(x)]
    return sizes == w.spans and not w.padded and all(d == 1 for d in w.dilations) and all(d == 1 for d in y.dims[2:])


def _tiles(x: Value, w: Windows) -> bool:
    """True when the windows lie side by side without padding, dilation or gaps."""
    return w.kernel == w.strides and not w.padded and all(d == 1 for d in w.dilations) and is_static(x.dims[2:])


@rule("AveragePool")
def average_pool(c: Context) -> Gradients:
    x, y = c.x(), c.y()
    w = read_windows(c, x, c.attr("kernel_shape"))
    if _covers(x, y, w):
        return {0: c.g * (1.0 / math.prod(w.kernel))}
    return {0: _spread(c, _divided(c, w), w)}


def _divided(c: Context, w: Windows) -> Value:
    """The gradient divided by the number of cells that each window counts."""
    x, y = c.x(), c.y()
    plain = not w.padded and not c.attr("ceil_mode", 0)
    if plain or (c.attr("count_include_pad", 0) and not c.attr("ceil_mode", 0)):
        return c.g * (1.0 / math.prod(w.kernel))
    sizes = c.static(x, _spatial(x), "the grid of a padded average pooling")
    outs = c.static(y, _spatial(y), "the grid of a padded average pooling")
    counts = np.ones((1,) * y.rank, np.float64)
    for i, (size, out) in enumerate(zip(sizes, outs, strict=True)):
        # Padding counts when asked for; what lies beyond it (ceil mode) never does.
        first, last = (-w.before[i], size + w.after[i]) if c.attr("count_include_pad", 0) else (0, size)
        starts = np.arange(out) * w.strides[i] - w.before[i]
        taps = starts[:, None] + np.arange(w.kernel[i]) * w.dilations[i]
        along = ((taps >= first) & (taps < last)).sum(axis=1)
        counts = counts * along.reshape([-1 if a == i + 2 else 1 for a in range(y.rank)])
    return c.g * c.e.constant((1.0 / np.maximum(counts, 1)).astype(c.g.dtype))


def _spread(c: Context, g: Value, w: Windows) -> Value:
    """Every cell of a window gets its window's value; overlapping windows add up."""
    e, x, y = c.e, c.x(), c.y()
    if _tiles(x, w):
        return _repeated(c, g, w)
    g = e.expand(g, y)
    # One channel at a time, so that a single small kernel of ones serves all.
    flat = _fold_channels(c, g)
    ones = e.constant(np.ones((1, 1, *w.kernel), g.dtype))
    folded = _folded_like(c, x)
    return e.reshape(place_windows(c, flat, ones, folded, w, 1), x, x.dims)


def _fold_channels(c: Context, value: Value) -> Value:
    """(N, C, ...) -> (N * C, 1, ...)."""
    dims = value.dims
    merged = dims[0] * dims[1] if isinstance(dims[0], int) and isinstance(dims[1], int) else None
    if is_static(dims[2:]):
        target = c.e.ints([-1, 1, *(int(d or 0) for d in dims[2:])])
    else:
        tail = c.e.slice(c.e("Shape", value), 0, 2, value.rank)
        target = c.e("Concat", c.e.ints([-1, 1]), tail, axis=0)
    return c.e("Reshape", value, target, shape=(merged, 1, *dims[2:]))


def _folded_like(c: Context, x: Value) -> Value:
    """A stand-in for `x` with its channels folded into the batch: only its spatial dims are read."""
    like = c.e.value(x.name)
    like.shape = (None, 1, *x.dims[2:])
    return like


def _repeated(c: Context, g: Value, w: Windows) -> Value:
    """Windows side by side: repeat each value, then pad what the last window left over."""
    e, x, y = c.e, c.x(), c.y()
    g = e.expand(g, y)
    split, target, dims = _interleaved(y, w)
    tall = e.unsqueeze(g, split)
    tall = e("Expand", tall, e.ints(target))
    result = e.reshape(tall, y, dims)
    return _fit(c, result, x)


def _interleaved(y: Value, w: Windows) -> tuple[list[int], list[int], tuple]:
    """Axes for the cells inside each window, an Expand target for them, and the merged dims."""
    n = w.count
    split = [3 + 2 * i for i in range(n)]
    target = [1, 1]
    merged: list = [*y.dims[:2]]
    for i in range(n):
        target += [1, w.kernel[i]]
        merged.append(int(y.dims[2 + i] or 0) * w.kernel[i])
    return split, target, tuple(merged)


def _fit(c: Context, value: Value, x: Value) -> Value:
    """Cut or zero-pad the far end of each spatial axis to the size of `x` (both static)."""
    e = c.e
    for axis in _spatial(x):
        have, want = int(value.dims[axis] or 0), int(x.dims[axis] or 0)
        if have < want:
            value = e.pad(value, axis, 0, want - have, length=want)
        elif have > want:
            value = e.slice(value, axis, 0, want, length=want)
    return value


@rule("LpPool")
def lp_pool(c: Context) -> Gradients:
    x, p = c.x(), c.attr("p", 2)
    w = read_windows(c, x, c.attr("kernel_shape"))
    if p == 1:
        return {0: _spread(c, c.full, w) * c.e("Sign", x)}
    y = c.y()
    safe = c.e.where(y > 0, y, 1.0)
    weighted = c.g / (safe if p == 2 else safe ** (p - 1))
    inner = x if p == 2 else c.e("Sign", x) * c.e("Abs", x) ** (p - 1)
    return {0: _spread(c, weighted, w) * inner}


@rule("MaxPool")
def max_pool(c: Context) -> Gradients:
    x, y = c.x(), c.y()
    w = read_windows(c, x, c.attr("kernel_shape"))
    if _covers(x, y, w):
        return {0: _first_of_grid(c)}
    stages = [i for i in range(w.count) if w.kernel[i] > 1 or w.strides[i] > 1]
    # Maxima along the last axis first: then the first hit along each axis is the first in reading order.
    values = [x]
    for i in reversed(stages[1:]):
        values.append(c.e("Max", *_window_cells(c, values[-1], w, i, y)))
    values.append(y)
    g = c.full
    for depth, i in enumerate(stages):
        upper, lower = values[len(stages) - depth - 1], values[len(stages) - depth]
        g = _undo_axis(c, g, upper, lower, w, i)
    return {0: g}


def _window_cells(c: Context, value: Value, w: Windows, i: int, out: Value) -> list[Value]:
    """For each tap of the windows along spatial axis `i`, the cells of `value` that it reads.

    out: a value that has the windows' number on that axis.
    """
    e, axis = c.e, 2 + i
    stride, dilation, span = w.strides[i], w.dilations[i], w.spans[i]
    count, size = e.dim(out, axis), e.dim(value, axis)
    if isinstance(count, int) and isinstance(size, int):
        tail = max((count - 1) * stride + span - w.before[i] - size, 0)
    else:
        tail = span + stride
    lowest = np.iinfo(value.dtype).min if value.dtype.kind in "iu" else float(np.finfo(value.dtype).min)
    padded = e.pad(value, axis, w.before[i], tail, lowest)
    reach = (count - 1) * stride + 1
    starts = [k * dilation for k in range(w.kernel[i])]
    return [e.slice(padded, axis, s, reach + s, stride, length=out.dims[axis]) for s in starts]


def _undo_axis(c: Context, g: Value, upper: Value, lower: Value, w: Windows, i: int) -> Value:
    """Gradient of `upper` from that of `lower` = its maximum along spatial axis `i`.

    For each tap of the window: the cells it reads, whether they hold the maximum and no
    earlier tap did, and the gradient there. The taps are then laid back over the axis.
    """
    e = c.e
    kernel, stride, dilation = w.kernel[i], w.strides[i], w.dilations[i]
    taken: Value | None = None
    taps: list[Value] = []
    for k, cells in enumerate(_window_cells(c, upper, w, i, lower)):
        hit = cells.equals(lower)
        first = hit if taken is None else hit & ~taken
        taps.append(e.masked(first, g))
        if k + 1 < kernel:
            taken = hit if taken is None else taken | hit
    if kernel == 1:
        stacked = _fold_channels(c, taps[0])
    else:
        stacked = _stack_taps(c, taps)
    eye = np.zeros((kernel, 1, *[kernel if j == i else 1 for j in range(w.count)]), g.dtype)
    for k in range(kernel):
        eye[(k, 0, *[k if j == i else 0 for j in range(w.count)])] = 1
    line = Windows(
        [kernel if j == i else 1 for j in range(w.count)],
        [stride if j == i else 1 for j in range(w.count)],
        [dilation if j == i else 1 for j in range(w.count)],
        [w.before[i] if j == i else 0 for j in range(w.count)],
        [w.after[i] if j == i else 0 for j in range(w.count)],
    )
    laid = place_windows(c, stacked, e.constant(eye), _folded_like(c, upper), line, 1)
    return e.reshape(laid, upper, upper.dims)


def _stack_taps(c: Context, taps: list[Value]) -> Value:
    """Tap gradients (N, C, ...) -> (N * C, taps, ...)."""
    e, first = c.e, taps[0]
    stacked = e("Concat", *(e.unsqueeze(t, [2]) for t in taps), axis=2)
    dims = first.dims
    if is_static(dims[2:]):
        target = e.ints([-1, len(taps), *(int(d or 0) for d in dims[2:])])
    else:
        target = e("Concat", e.ints([-1, len(taps)]), e.slice(e("Shape", first), 0, 2, first.rank), axis=0)
    return e("Reshape", stacked, target, shape=(None, len(taps), *dims[2:]))
