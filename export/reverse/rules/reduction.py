"""Reductions over axes."""

from __future__ import annotations

from ..emitter import Value
from ..registry import Context, Gradients, rule

__all__: list[str] = []


def _setting(c: Context) -> tuple[list[int], Value, Value]:
    """(axes, gradient with the axes kept, output with the axes kept)."""
    rank = c.x().rank
    given = c.ints(1, "axes")
    if not given:
        given = [] if c.attr("noop_with_empty_axes", 0) else None
    axes = c.axes(given, rank)
    g, y = c.g, c.y()
    if not c.attr("keepdims", 1):
        g, y = c.e.unsqueeze(g, axes), c.e.unsqueeze(y, axes)
    return axes, g, y


@rule("ReduceSum")
def reduce_sum(c: Context) -> Gradients:
    return {0: _setting(c)[1]}


@rule("ReduceMean")
def reduce_mean(c: Context) -> Gradients:
    axes, g, _ = _setting(c)
    return {0: c.e.divided_by_size(g, c.e.size_of(c.x(), axes))}


@rule("ReduceMax", "ReduceMin")
def reduce_extremum(c: Context) -> Gradients:
    """Ties share the gradient equally, as PyTorch's amax and amin do."""
    axes, g, y = _setting(c)
    hit = c.e.cast(c.x().equals(y), g.kind)
    return {0: hit * (g / c.e.reduce("ReduceSum", hit, axes))}


@rule("ReduceProd")
def reduce_prod(c: Context) -> Gradients:
    """The product of the other factors, right also where one factor is zero."""
    e, x = c.e, c.x()
    axes, g, _ = _setting(c)
    zero = x.equals(0.0)
    others = e.where(zero, 1.0, x)
    product = e.reduce("ReduceProd", others, axes)
    zeros = e.reduce("ReduceSum", e.cast(zero, x.kind), axes)
    without_zero = product / others * e.cast(zeros.equals(0.0), x.kind)
    at_the_zero = product * e.cast(zeros.equals(1.0), x.kind)
    return {0: g * e.where(zero, at_the_zero, without_zero)}


@rule("ReduceL1")
def reduce_l1(c: Context) -> Gradients:
    return {0: _setting(c)[1] * c.e("Sign", c.x())}


@rule("ReduceL2")
def reduce_l2(c: Context) -> Gradients:
    """0 where the norm is 0."""
    _, g, y = _setting(c)
    safe = c.e.where(y > 0, y, 1.0)
    return {0: g / safe * c.x()}


@rule("ReduceSumSquare")
def reduce_sum_square(c: Context) -> Gradients:
    return {0: _setting(c)[1] * 2 * c.x()}


@rule("ReduceLogSum")
def reduce_log_sum(c: Context) -> Gradients:
    _, g, y = _setting(c)
    return {0: g / c.e("Exp", y)}


@rule("ReduceLogSumExp")
def reduce_log_sum_exp(c: Context) -> Gradients:
    _, g, y = _setting(c)
    return {0: g * c.e("Exp", c.x() - y)}


@rule("CumSum")
def cumsum(c: Context) -> Gradients:
    """The sum runs back."""
    return {
        0: lambda: c.e("CumSum", c.full, c.x(1), exclusive=c.attr("exclusive", 0), reverse=1 - c.attr("reverse", 0))
    }
