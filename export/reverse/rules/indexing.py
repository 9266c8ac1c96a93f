"""Gather and its relatives: going back without scattering.

Adding into indexed cells is what TensorRT refuses. Constant indices are undone by padding or
by gathering with the inverse index; indices computed at run time by a product with the
one-hot matrix that Equal makes.
"""

from __future__ import annotations

import math

import numpy as np

from ..emitter import Value
from ..registry import Context, Gradients, rule
from .windows import is_static

__all__: list[str] = []

# More repeats of one index than this are summed by a matrix product instead of by terms.
_MOST_TERMS = 8


@rule("Gather")
def gather(c: Context) -> Gradients:
    return {0: lambda: _ungather(c)}


def _ungather(c: Context) -> Value:
    e, x, y = c.e, c.x(), c.y()
    axis = c.axis(c.attr("axis", 0), x.rank)
    indices = c.x(1)
    size = x.dims[axis]
    taken = list(range(axis, axis + indices.rank))
    g = e.expand(c.g, y, taken)
    constant = c.constant(1)
    count: int | None
    if indices.rank == 0:
        g, count = e.unsqueeze(g, [axis]), 1
    else:
        count = math.prod([int(d or 0) for d in indices.dims]) if is_static(indices.dims) else None
        if indices.rank > 1:
            dims = (*g.dims[:axis], count, *g.dims[axis + indices.rank :])
            axes = [*range(axis), axis, *range(axis + indices.rank, g.rank)]
            if sum(not isinstance(d, int) for d in dims) > 1 and count is None:
                c.fail("its indices have an unknown number")
            g = e.reshape(g, g, dims, axes)
    if constant is not None and isinstance(size, int):
        return _inverse_gather(c, g, axis, np.where(constant < 0, constant + size, constant).reshape(-1), size)
    if constant is not None and constant.size == 1:
        return _one_cell(c, g, axis, int(constant.reshape(-1)[0]))
    flat = indices if indices.rank == 1 else e("Reshape", indices, e.ints([-1]))
    return _by_product(c, g, axis, flat, size)


def _one_cell(c: Context, g: Value, axis: int, index: int) -> Value:
    """One constant index on an axis of unknown size."""
    e, x = c.e, c.x()
    whole = e.dim(x, axis)
    before = index if index >= 0 else whole + index
    return e.pad(g, axis, before, whole - before - 1, length=x.dims[axis])


def _inverse_gather(c: Context, g: Value, axis: int, indices: np.ndarray, size: int) -> Value:
    """Each cell of the source takes the gradients of the places that read it."""
    e = c.e
    count = len(indices)
    if count and np.array_equal(indices, np.arange(indices[0], indices[0] + count)):
        first = int(indices[0])
        return e.pad(g, axis, first, size - first - count, length=size)
    places = [np.flatnonzero(indices == cell) for cell in range(size)]
    most = max((len(p) for p in places), default=0)
    if most > _MOST_TERMS:
        return _by_product(c, g, axis, e.ints([int(i) for i in indices]), size)
    # Cells that nobody reads look at one more place, which holds zeros.
    spare = e.pad(g, axis, 0, 1, length=count + 1) if any(len(p) < most for p in places) else g
    parts = []
    for term in range(most):
        back = e.ints([int(p[term]) if term < len(p) else count for p in places])
        parts.append(e("Gather", spare, back, axis=axis))
    return sum(parts[1:], parts[0])


def _by_product(c: Context, g: Value, axis: int, indices: Value, size: int | str | None) -> Value:
    """Sum over places of one-hot(index) times gradient, as a matrix product along `axis`."""
    e, x = c.e, c.x()
    cells, wrapped = _cells(c, x, axis, size, indices)
    hot = e.cast(e("Equal", e.unsqueeze(cells, [1]), e.unsqueeze(wrapped, [0])), g.kind)
    rank = g.rank
    order = [*(a for a in range(rank) if a != axis), axis]
    last = e.transpose(g, order)
    turned = e.transpose(hot, [1, 0])
    product = e("MatMul", last, turned, shape=(*last.dims[:-1], size))
    back = [order.index(a) for a in range(rank)]
    return e.transpose(product, back)


def _cells(c: Context, x: Value, axis: int, size: int | str | None, indices: Value) -> tuple[Value, Value]:
    """(0 .. size-1, indices with negative ones wrapped), both int64."""
    e = c.e
    indices = e.cast(indices, 7)
    if isinstance(size, int):
        cells: Value = e.ints(list(range(size)))
        whole: int | Value = size
    else:
        whole = e.dim(x, axis)
        zero, one = e.constant(np.array(0, np.int64)), e.constant(np.array(1, np.int64))
        assert isinstance(whole, Value)
        cells = e("Range", zero, whole, one)
    return cells, e.where(indices < 0, indices + whole, indices)


@rule("GatherElements")
def gather_elements(c: Context) -> Gradients:
    """out[.., j, ..] = x[.., index[.., j, ..], ..]: one-hot over the source's axis, summed over j."""

    def back() -> Value:
        e, x, indices = c.e, c.x(), c.x(1)
        axis = c.axis(c.attr("axis", 0), x.rank)
        cells, wrapped = _cells(c, x, axis, x.dims[axis], indices)
        shaped = e.reshape(cells, cells, [-1 if a == axis else 1 for a in range(x.rank + 1)])
        shaped.shape = tuple(x.dims[axis] if a == axis else 1 for a in range(x.rank + 1))
        hit = e("Equal", e.unsqueeze(wrapped, [axis]), shaped)
        spread = e.masked(hit, e.unsqueeze(c.full, [axis]))
        found = e.reduce("ReduceSum", spread, [axis + 1], keepdims=False)
        for a in range(x.rank):
            if a != axis and found.dims[a] != x.dims[a]:
                have, want = e.dim(found, a), e.dim(x, a)
                found = e.pad(found, a, 0, want - have, length=x.dims[a])
        return found

    return {0: back}


@rule("GatherND")
def gather_nd(c: Context) -> Gradients:
    """As a gather along the flattened indexed axes, for every batch entry."""

    def back() -> Value:
        e, x, indices = c.e, c.x(), c.x(1)
        batch = c.attr("batch_dims", 0)
        depth = c.static(indices, [indices.rank - 1], "the depth of its indices")[0]
        indexed = c.static(x, list(range(batch, batch + depth)), "the sizes of its indexed axes")
        lead = c.static(x, list(range(batch)), "the sizes of its batch axes") if batch else []
        rest = x.dims[batch + depth :]
        steps = [math.prod(indexed[i + 1 :]) for i in range(depth)]
        wrapped = e.where(indices < 0, indices + e.ints(indexed), indices)
        linear = e.reduce("ReduceSum", wrapped * e.ints(steps), [indices.rank - 1], keepdims=False)
        groups, size = math.prod(lead), math.prod(indexed)
        places = e("Reshape", linear, e.ints([groups, 1, -1]), shape=(groups, 1, None))
        cells = e.constant(np.arange(size, dtype=np.int64).reshape(1, size, 1))
        hot = e.cast(e("Equal", cells, places), c.g.kind)
        # One of the two may be open: the number of places, or what is taken at each.
        if is_static(rest):
            count, width = None, math.prod([int(d or 0) for d in rest])
        else:
            count = math.prod(c.static(indices, list(range(batch, indices.rank - 1)), "the sizes of its indices"))
            width = None
        sizes = [groups, count or -1, width or -1]
        flat = e("Reshape", c.full, e.ints(sizes), shape=(groups, count, width))
        return e.reshape(e("MatMul", hot, flat), x, (*lead, *indexed, *rest))

    return {0: back}


@rule("TopK")
def top_k(c: Context) -> Gradients:
    """Back to where the values came from; no place is taken twice, so nothing is added up."""
    e, x = c.e, c.x()
    axis = c.axis(c.attr("axis", -1), x.rank)
    return {0: lambda: e("ScatterElements", e.zeros_like(x), c.y(1), c.full, axis=axis, shape=x.shape)}


@rule("ScatterElements", "ScatterND")
def scatter(c: Context) -> Gradients:
    """What is overwritten has no gradient; the updates take theirs from the places where they went."""
    e, kind = c.e, c.attr("reduction", "none")
    if kind not in ("none", "add"):
        c.fail(f"it combines values by '{kind}'")
    elements = c.node.op_type == "ScatterElements"
    axis = {"axis": c.attr("axis", 0)} if elements else {}

    def data() -> Value:
        if kind == "add":
            return c.g
        return e(c.node.op_type, c.full, c.x(1), e.zeros_like(c.x(2)), shape=c.x().shape, **axis)

    def updates() -> Value:
        return e("GatherElements" if elements else "GatherND", c.full, c.x(1), shape=c.x(2).shape, **axis)

    return {0: data, 2: updates}


@rule("ReverseSequence")
def reverse_sequence(c: Context) -> Gradients:
    """Turning round twice is no change."""
    axes = {"batch_axis": c.attr("batch_axis", 1), "time_axis": c.attr("time_axis", 0)}
    return {0: lambda: c.e("ReverseSequence", c.full, c.x(1), **axes)}
