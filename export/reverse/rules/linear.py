"""MatMul, Gemm and Einsum.

A constant weight is always read under its own name, with the transposition done by the
operator (`Gemm`'s transA and transB), never by a transposed copy.
"""

from __future__ import annotations

import string

from ..emitter import Value
from ..registry import Context, Gradients, rule

__all__: list[str] = []


@rule("Gemm", broadcasting=False)
def gemm(c: Context) -> Gradients:
    """Y = alpha * A' B' + beta * C, with A' and B' possibly transposed."""
    alpha, beta = c.attr("alpha", 1.0), c.attr("beta", 1.0)
    turned_a, turned_b = int(bool(c.attr("transA", 0))), int(bool(c.attr("transB", 0)))

    def first() -> Value:
        row = _gathered_row(c, turned_b) if not turned_a else None
        if row is not None:
            return row * alpha
        if turned_a:
            return _gemm(c, c.x(1), c.full, alpha, turned_b, 1, c.x(0))
        return _gemm(c, c.full, c.x(1), alpha, 0, 1 - turned_b, c.x(0))

    def second() -> Value:
        if turned_b:
            return _gemm(c, c.full, c.x(0), alpha, 1, turned_a, c.x(1))
        return _gemm(c, c.x(0), c.full, alpha, 1 - turned_a, 0, c.x(1))

    return {0: first, 1: second, 2: lambda: c.sum_to(c.g * beta, c.y(), c.x(2))}


def _gemm(c: Context, a: Value, b: Value, alpha: float, turn_a: int, turn_b: int, like: Value) -> Value:
    return c.e("Gemm", a, b, alpha=alpha, transA=turn_a, transB=turn_b, shape=like.shape)


def _gathered_row(c: Context, turned: int) -> Value | None:
    """The chosen class's weights (N, inputs), where the gradient is still the one-hot seed."""
    seed, weight = c.seed, c.x(1)
    if seed is None or seed.rank != 2 or weight.rank != 2 or weight.dims[0 if turned else 1] != seed.dims[1]:
        return None
    if turned:
        return c.e("Gather", weight, seed.classes, axis=0)
    return c.e.transpose(c.e("Gather", weight, seed.classes, axis=1), [1, 0])


@rule("MatMul")
def matmul(c: Context) -> Gradients:
    """Gradients of numpy's matmul, with 1-D operands and broadcast batches."""
    return {0: lambda: _left(c), 1: lambda: _right(c)}


def _as_matrices(c: Context) -> tuple[Value, Value, Value, Value]:
    """(a, b, y, g) with 1-D operands made matrices."""
    a, b, y, g = c.x(0), c.x(1), c.y(), c.g
    rank = max(a.rank, b.rank, 2)
    lost = []
    if a.rank == 1:
        a = c.e.unsqueeze(a, [0])
        lost.append(rank - 2)
    if b.rank == 1:
        b = c.e.unsqueeze(b, [1])
        lost.append(rank - 1)
    return a, b, c.e.unsqueeze(y, lost), c.e.unsqueeze(g, lost)


def _left(c: Context) -> Value:
    e = c.e
    weight = c.x(1)
    if c.seed is not None and c.x(0).rank == 2:
        row = _gathered_row(c, 0)
        if row is not None:
            return row
    a, b, y, g = _as_matrices(c)
    if weight.rank == 2 and c.node.input[1] in c.graph.constants and a.rank >= 2:
        # y's last axis is contracted: it must be there in full; others may stay constant.
        if g.dims[-1] == 1 and y.dims[-1] != 1:
            g = e.expand(g, y)
        if g.rank == 2:
            return e("Gemm", g, weight, transB=1)
        flat = e("Reshape", g, e.ints([-1, int(weight.dims[1] or 0)]))
        product = e("Gemm", flat, weight, transB=1)
        return e.reshape(product, g, (*g.dims[:-1], weight.dims[0]))
    g = e.expand(g, y)
    result = e("MatMul", g, _turned(c, b))
    return _undo(c, result, y, a, b, c.x(0), 0)


def _right(c: Context) -> Value:
    a, b, y, g = _as_matrices(c)
    result = c.e("MatMul", _turned(c, a), c.e.expand(g, y))
    return _undo(c, result, y, a, b, c.x(1), 1)


def _turned(c: Context, value: Value) -> Value:
    order = list(range(value.rank))
    order[-1], order[-2] = order[-2], order[-1]
    return c.e.transpose(value, order)


def _undo(c: Context, result: Value, y: Value, a: Value, b: Value, target: Value, which: int) -> Value:
    """Sum over broadcast batch axes, then drop the axis that a 1-D operand was given."""
    matrix = a if which == 0 else b
    full = c.e.value(result.name)
    full.shape = (*y.dims[:-2], *matrix.dims[-2:])
    result = c.sum_to(full, full, matrix)
    if target.rank == 1:
        result = c.e.squeeze(result, [0 if which == 0 else 1])
    return result


@rule("Einsum")
def einsum(c: Context) -> Gradients:
    """For each operand: the einsum of the output's gradient with the other operands.

    A label that only one operand has (it is summed there) is put back by expanding.
    """
    terms, output = _parse(c)
    operands = [c.x(i) for i in range(len(terms))]

    def operand(position: int) -> Value:
        own = terms[position]
        others = [t for i, t in enumerate(terms) if i != position]
        available = set(output).union(*others)
        inner = "".join(label for label in own if label in available)
        equation = ",".join([output, *others]) + "->" + inner
        values = [c.full, *(v for i, v in enumerate(operands) if i != position)]
        made = c.e("Einsum", *values, equation=equation)
        missing = [i for i, label in enumerate(own) if label not in available]
        # Left as axes of 1: the gradient is constant along a label that is only summed.
        return c.e.unsqueeze(made, missing)

    return {i: (lambda i=i: operand(i)) for i in range(len(terms))}


def _parse(c: Context) -> tuple[list[str], str]:
    """Labels of every operand and of the output, with ``...`` written out."""
    equation = str(c.attr("equation")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    unused = [label for label in string.ascii_letters if label not in equation]
    extra = 0
    for i, term in enumerate(terms):
        if "..." in term:
            extra = max(extra, c.x(i).rank - len(term.replace("...", "")))
    dots = "".join(unused[:extra])
    if not arrow:
        counts = {label: left.count(label) for label in left if label.isalpha()}
        right = ("..." if "..." in left else "") + "".join(sorted(k for k, n in counts.items() if n == 1))
    written = []
    for i, term in enumerate(terms):
        if "..." in term:
            size = c.x(i).rank - len(term.replace("...", ""))
            if size != extra:
                c.fail("its '...' stands for a different number of axes in its operands")
            term = term.replace("...", dots)
        if len(set(term)) != len(term):
            c.fail(f"its operand {i} repeats a label ('{term}': a diagonal)")
        written.append(term)
    return written, right.replace("...", dots)
