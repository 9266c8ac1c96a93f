"""Activation functions and maxima.

Growing ones need their value at the two ends only. x * sigmoid(x) and x * hard_sigmoid(x) fall to one minimum and rise
again: the larger end is the bound above, the smaller one or the minimum the bound below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .registry import Bounds, Context, rule

__all__ = ["gated_hard_sigmoid", "gated_sigmoid"]

#: Where x * sigmoid(x) is smallest, 1 + x * (1 - sigmoid(x)) = 0, and its value there.
_SWISH_AT, _SWISH_LEAST = -1.2784645427610738, -0.27846454276107379


@rule("Relu", "Clip", "MaxPool", "GlobalMaxPool", "ReduceMax")
def selecting(c: Context) -> Bounds:
    """Growing, and one of the values that go in: nothing is rounded."""
    if len([name for name in c.node.output if name]) > 1:
        c.fail("its indices are used")
    x = c.x()
    return Bounds(c.evaluate(x.low)[0], c.evaluate(x.high)[0])


@rule("LeakyRelu", "PRelu")
def leaky(c: Context) -> Bounds:
    slope = c.attr("alpha", 0.01) if c.node.op_type == "LeakyRelu" else c.constant(1)
    if np.min(slope) < 0:
        c.fail("its slope is negative")
    x = c.x()
    low, high = (np.where(end < 0, end * slope, end) for end in (x.low, x.high))
    return c.rounded(low, high, c.gamma(1) * x.size * max(1.0, float(np.max(slope))))


@rule("Sigmoid", "Tanh")
def squashing(c: Context) -> Bounds:
    x = c.x()
    return c.rounded(c.evaluate(x.low)[0], c.evaluate(x.high)[0], c.arithmetic.function)


@rule("HardSigmoid")
def hard_sigmoid(c: Context) -> Bounds:
    alpha, beta = c.attr("alpha", 0.2), c.attr("beta", 0.5)
    if alpha < 0:
        c.fail("its slope is negative")
    x = c.x()
    low, high = (np.clip(alpha * end + beta, 0, 1) for end in (x.low, x.high))
    # Rounding cannot leave the range, and far outside it nothing is left of it.
    error = c.gamma(3) * np.minimum(alpha * x.size + abs(beta), 2 + 2 * abs(beta))
    return Bounds(np.maximum(low - error, 0), np.minimum(high + error, 1))


@rule("HardSwish")
def hard_swish(c: Context) -> Bounds:
    return gated_hard_sigmoid(c, c.x(), 1 / 6, 0.5)


@rule("Swish", "com.microsoft::QuickGelu")
def swish(c: Context) -> Bounds:
    alpha = c.attr("alpha", 1.0 if c.node.op_type == "Swish" else 1.702)
    if alpha <= 0:
        c.fail(f"its alpha is {alpha}, where a positive one was expected")
    return gated_sigmoid(c, c.x(), alpha)


def gated_sigmoid(c: Context, x: Bounds, alpha: float) -> Bounds:
    """Bounds of x * sigmoid(alpha * x), alpha above 0."""
    ends = x.low * expit(alpha * x.low), x.high * expit(alpha * x.high)
    low, high = _one_valley(x, *ends, _SWISH_AT / alpha, _SWISH_LEAST / alpha)
    return c.rounded(low, high, (c.arithmetic.function + c.gamma(3)) * x.size)


def gated_hard_sigmoid(c: Context, x: Bounds, alpha: float, beta: float) -> Bounds:
    """Bounds of x * clip(alpha * x + beta, 0, 1), alpha above 0 and beta between 0 and 2: it has a single minimum."""
    at_low, at_high = (end * np.clip(alpha * end + beta, 0, 1) for end in (x.low, x.high))
    low, high = _one_valley(x, at_low, at_high, -beta / (2 * alpha), -(beta**2) / (4 * alpha))
    # The gate's own rounding is largest where it begins: two units, whatever alpha * x has grown to.
    gate = np.minimum(alpha * x.size + beta, 2 + 2 * beta)
    return c.rounded(low, high, c.gamma(5) * x.size * np.maximum(gate, 1))


def _one_valley(
    x: Bounds, at_low: NDArray[Any], at_high: NDArray[Any], place: float, least: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    inside = (x.low <= place) & (place <= x.high)
    return np.where(inside, least, np.minimum(at_low, at_high)), np.maximum(at_low, at_high)
