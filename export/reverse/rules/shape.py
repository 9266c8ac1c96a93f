"""Operators that only move values: reshaping, transposing, joining, cutting, padding."""

from __future__ import annotations

import numpy as np

from ...graph import Shape
from ..emitter import OneHot, Value
from ..registry import Context, Gradients, rule
from .windows import is_static

__all__ = ["reshape_gradient"]


@rule("Identity", "Dropout")
def identity(c: Context) -> Gradients:
    if c.node.op_type == "Dropout" and c.has(2):
        training = c.constant(2)
        if training is None or bool(training.reshape(-1)[0]):
            c.fail("it is in training mode")
    return {0: c.g}


@rule("Cast", "CastLike")
def cast(c: Context) -> Gradients:
    if not c.graph.is_float(c.node.input[0]):
        return {}
    return {0: lambda: c.e.cast(c.g, c.x().kind)}


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(c: Context) -> Gradients:
    return {0: reshape_gradient(c, c.g, c.y(), c.x())}


def reshape_gradient(c: Context, g: Value, y: Value, x: Value) -> Value:
    """`g`, which belongs to `y`, at the shape of `x` (the same elements in the same order).

    Axes that are constant stay so where whole groups of axes correspond: the gradient of
    (N, C, H * W) that is constant over its last axis becomes (N, C, 1, 1).
    """
    if isinstance(g, OneHot):
        seed = g.with_shape(x.dims)
        if seed is not None:
            return seed
    result: list = []
    for ours, theirs in _groups(x.dims, y.dims):
        wide = [a for a in theirs if y.dims[a] != 1]
        if wide and all(g.dims[a] == 1 for a in wide):
            result += [1] * len(ours)
        else:
            g = c.e.expand(g, y, theirs)
            result += [x.dims[a] for a in ours]
    return c.e.reshape(g, x, result)


def _groups(ours: Shape, theirs: Shape) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of axes of two shapes that hold the same elements; the unclear rest is one run."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(ours) and j < len(theirs):
        if ours[i] is not None and ours[i] == theirs[j]:
            groups.append(([i], [j]))
            i, j = i + 1, j + 1
            continue
        left, right = ours[i], theirs[j]
        if not isinstance(left, int) or not isinstance(right, int):
            # An axis of 1 beside a symbol belongs to nothing.
            if left == 1:
                groups.append(([i], []))
                i += 1
                continue
            if right == 1:
                groups.append(([], [j]))
                j += 1
                continue
            break
        first, second = [i], [j]
        a, b = i + 1, j + 1
        while left != right:
            take_left = left < right
            at, dims = (a, ours) if take_left else (b, theirs)
            dim = dims[at] if at < len(dims) else None
            if not isinstance(dim, int):
                break
            if take_left:
                left, a = left * dim, a + 1
                first.append(at)
            else:
                right, b = right * dim, b + 1
                second.append(at)
        if left != right:
            break
        groups.append((first, second))
        i, j = a, b
    rest = (list(range(i, len(ours))), list(range(j, len(theirs))))
    if rest[0] or rest[1]:
        groups.append(rest)
    return groups


@rule("Transpose")
def transpose(c: Context) -> Gradients:
    rank = c.x().rank
    order = c.attr("perm") or list(range(rank))[::-1]
    back = [order.index(i) for i in range(rank)]
    seed = c.seed.transposed(back) if c.seed is not None else None
    return {0: seed if seed is not None else c.e.transpose(c.g, back)}


@rule("Expand", broadcasting=True)
def expand(c: Context) -> Gradients:
    return {0: c.g}


@rule("Tile")
def tile(c: Context) -> Gradients:
    repeats = c.ints(1) or []

    def folded() -> Value:
        e, x = c.e, c.x()
        g = c.full
        for axis, count in enumerate(repeats):
            if count == 1:
                continue
            dims = [*g.dims[:axis], count, x.dims[axis], *g.dims[axis + 1 :]]
            split = e.reshape(g, c.y(), dims, [*range(axis), axis, axis, *range(axis + 1, g.rank)])
            if sum(not isinstance(d, int) for d in dims) > 1 and not isinstance(x.dims[axis], int):
                c.fail("it repeats an axis of unknown size")
            g = e.reduce("ReduceSum", split, [axis], keepdims=False)
        return g

    return {0: folded}


@rule("Concat")
def concat(c: Context) -> Gradients:
    e, g, y = c.e, c.g, c.y()
    axis = c.axis(c.attr("axis", 0), y.rank)
    parts = [c.x(i) for i in range(len(c.node.input))]
    if g.dims[axis] == 1 and y.dims[axis] != 1:
        return dict.fromkeys(range(len(parts)), g)
    sizes = [p.dims[axis] for p in parts]
    if len(c.wanted) == len(parts) > 1:
        if is_static(tuple(sizes)):
            lengths = e.ints([int(s or 0) for s in sizes])
        else:
            lengths = e("Concat", *(e.vector(e.dim(p, axis)) for p in parts), axis=0)
        shapes = [(*g.dims[:axis], s, *g.dims[axis + 1 :]) for s in sizes]
        return dict(enumerate(e.many("Split", g, lengths, outputs=len(parts), shapes=shapes, axis=axis)))
    found: dict[int, Value] = {}
    start: int | Value = 0
    for i, part in enumerate(parts):
        size = e.dim(part, axis)
        end = size + start
        if i in c.wanted:
            found[i] = e.slice(g, axis, start, end, length=part.dims[axis])
        start = end
    return found


@rule("Split")
def split(c: Context) -> Gradients:
    e, x = c.e, c.x()
    axis = c.axis(c.attr("axis", 0), x.rank)
    outputs = [i for i, name in enumerate(c.node.output) if name]
    parts = [c.y(i) for i in outputs]
    given = [c.gradients[i] for i in outputs]
    live = [i for i, g in enumerate(given) if g is not None]
    first, last = live[0], live[-1]
    # Axes along which every part's gradient is constant stay constant.
    pieces = given[first : last + 1]
    wide = [a for a in range(x.rank) if a == axis or any(g is not None and g.dims[a] != 1 for g in pieces)]
    nothing = e.constant(np.zeros((1,) * x.rank, x.dtype))
    run = [
        e.expand(nothing if g is None else g, part, wide)
        for g, part in zip(pieces, parts[first : last + 1], strict=True)
    ]
    joined = run[0] if len(run) == 1 else e("Concat", *run, axis=axis)
    before, after = (sum(e.dim(part, axis) for part in some) for some in (parts[:first], parts[last + 1 :]))
    return {0: e.pad(joined, axis, before, after, length=x.dims[axis])}


@rule("Slice")
def slice_(c: Context) -> Gradients:
    x, y = c.x(), c.y()
    starts, ends = c.ints(1, "starts") or [], c.ints(2, "ends") or []
    axes = c.ints(3, "axes") or list(range(len(starts)))
    steps = c.ints(4) or [1] * len(starts)

    def placed() -> Value:
        g = c.g
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            axis = c.axis(axis, x.rank)
            if x.dims[axis] is not None and x.dims[axis] == y.dims[axis] and step == 1:
                continue
            g = c.e.expand(g, y, [axis])
            g = _unslice(c, g, axis, start, end, step)
        return g

    return {0: placed}


def _unslice(c: Context, g: Value, axis: int, start: int, end: int, step: int) -> Value:
    e, x = c.e, c.x()
    size = x.dims[axis]
    if not isinstance(size, int):
        return _unslice_unknown(c, g, axis, start, step)
    cells = range(*slice(start, end, step).indices(size))
    if step < 0:
        g, cells = e.flip(g, [axis]), cells[::-1]
    stride = abs(step)
    before, count = cells.start if len(cells) else 0, len(cells)
    if stride > 1:
        gaps = e.pad(e.unsqueeze(g, [axis + 1]), axis + 1, 0, stride - 1, length=stride)
        dims = (*g.dims[:axis], count * stride, *g.dims[axis + 1 :])
        g = e.reshape(gaps, g, dims)
        count = min(count * stride, size - before)
        g = e.slice(g, axis, 0, count, length=count)
    return e.pad(g, axis, before, size - before - count, length=size)


def _unslice_unknown(c: Context, g: Value, axis: int, start: int, step: int) -> Value:
    """The same for an axis whose size is known at run time only."""
    e, x, y = c.e, c.x(), c.y()
    size = x.dims[axis]
    whole, count = e.dim(x, axis), e.dim(y, axis)
    # Exporters write "from the end" as the lowest number there is, or as the highest.
    lowest, highest = start <= -(2**31) + 1, start >= 2**31 - 1
    if step == 1:
        before = 0 if lowest else start if start >= 0 else whole + start
        return e.pad(g, axis, before, whole - before - count, length=size)
    stride = abs(step)
    if step > 0:
        before = 0 if lowest else start if start >= 0 else whole + start
    else:
        g = e.flip(g, [axis])
        last = whole - 1 if highest or start == -1 else start if start >= 0 else whole + start
        if isinstance(last, int) and isinstance(whole, Value):
            last = e("Min", whole - 1, e.constant(np.array(last, np.int64)))
        before = last - (count - 1) * stride
    # Each cell, then stride - 1 zeros; cut where the axis ends.
    gaps = e.pad(e.unsqueeze(g, [axis + 1]), axis + 1, 0, stride - 1, length=stride)
    rest = [d if isinstance(d, int) else e.dim(g, a) for a, d in enumerate(g.dims) if a > axis]
    target = e.ints([0] * axis + [-1])
    if rest:
        target = e("Concat", target, *(e.vector(d) for d in rest), axis=0)
    spread = e("Reshape", gaps, target, shape=(*g.dims[:axis], None, *g.dims[axis + 1 :]))
    filled = e.pad(spread, axis, before, whole)
    return e.slice(filled, axis, 0, whole, length=size)


@rule("Pad")
def pad(c: Context) -> Gradients:
    if 2 in c.wanted:
        c.fail("its filling value depends on the layer")
    x, mode = c.x(), c.attr("mode", "constant")
    pads = c.ints(1, "pads") or []
    axes = [c.axis(a, x.rank) for a in c.ints(3) or range(x.rank)]
    count = len(axes)

    def folded() -> Value:
        g, y = c.g, c.y()
        for i, axis in enumerate(axes):
            before, after = pads[i], pads[count + i]
            if before or after:
                g = c.e.expand(g, y, [axis])
                g = _unpad(c, g, axis, before, after, mode)
        return g

    return {0: folded}


def _unpad(c: Context, g: Value, axis: int, before: int, after: int, mode: str) -> Value:
    """Cut what was added; what mirrored or repeated a cell is added to that cell's gradient."""
    e, x = c.e, c.x()
    dim = x.dims[axis]
    if mode == "constant" or before < 0 or after < 0:
        if mode != "constant":
            c.fail(f"it cuts (negative pads) in mode '{mode}'")
        n = e.dim(x, axis)
        # Negative padding cuts: what was cut has no gradient.
        kept = n + min(before, 0) + min(after, 0)
        inner = e.slice(g, axis, max(before, 0), kept + max(before, 0))
        return e.pad(inner, axis, max(-before, 0), max(-after, 0), length=dim)
    n = e.dim(x, axis)
    result = e.slice(g, axis, before, n + before, length=dim)
    for width, at_start in ((before, True), (after, False)):
        if not width:
            continue
        if at_start:
            rim = e.slice(g, axis, 0, width, length=width)
        else:
            rim = e.slice(g, axis, n + before, n + (before + after), length=width)
        if mode == "edge":
            rim, wide, gap = e.reduce("ReduceSum", rim, [axis]), 1, 0
        elif mode == "reflect":
            rim, wide, gap = e.flip(rim, [axis]), width, 1
        elif mode == "wrap":
            wide, gap, at_start = width, 0, not at_start
        else:
            c.fail(f"it has the unknown mode '{mode}'")
        rest = n - (wide + gap)
        if isinstance(rest, int) and rest < 0:
            c.fail(f"it adds {width} cells to an axis of {n} in mode '{mode}'")
        ends = (gap, rest) if at_start else (rest, gap)
        result = result + e.pad(rim, axis, *ends, length=dim)
    return result


@rule("DepthToSpace")
def depth_to_space(c: Context) -> Gradients:
    block = c.attr("blocksize")
    if c.attr("mode", "DCR") == "DCR":
        return {0: lambda: c.e("SpaceToDepth", c.full, blocksize=block)}

    def column_major() -> Value:
        e, x = c.e, c.x()
        n, channels, height, width = x.dims
        depth = c.static(x, [1], "the number of channels")[0] // (block * block)
        dims = (n, depth, height, block, width, block)
        tall = e.reshape(c.full, x, dims, [0, 1, 2, 2, 3, 3])
        return e.reshape(e.transpose(tall, [0, 1, 3, 5, 2, 4]), x, (n, channels, height, width))

    return {0: column_major}


@rule("SpaceToDepth")
def space_to_depth(c: Context) -> Gradients:
    mode = c.attr("mode", "DCR")
    return {0: lambda: c.e("DepthToSpace", c.full, blocksize=c.attr("blocksize"), mode=mode)}


@rule("Trilu")
def trilu(c: Context) -> Gradients:
    return {0: lambda: c.e("Trilu", c.full, c.x(1) if c.has(1) else None, upper=c.attr("upper", 1))}
