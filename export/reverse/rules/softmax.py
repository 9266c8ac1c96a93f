"""Softmax and its relatives."""

from __future__ import annotations

from ..registry import Context, Gradients, rule

__all__: list[str] = []


@rule("Softmax")
def softmax(c: Context) -> Gradients:
    axis = c.axis(c.attr("axis", -1), c.x().rank)
    weighted = c.g * c.y()
    return {0: weighted - c.y() * c.e.reduce("ReduceSum", weighted, [axis])}


@rule("LogSoftmax")
def log_softmax(c: Context) -> Gradients:
    axis = c.axis(c.attr("axis", -1), c.x().rank)
    return {0: c.g - c.e("Exp", c.y()) * c.sum_over(c.g, c.y(), [axis])}


@rule("Hardmax")
def hardmax(c: Context) -> Gradients:
    """Constant almost everywhere: no gradient."""
    return {}
