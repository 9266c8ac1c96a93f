"""Affine operators: the centre goes through the weights, the radius through their absolute values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...export.proof.float64.windows import convolve
from .registry import Bounds, Context, rule

__all__ = ["affine"]

Array = NDArray[Any]


def affine(
    c: Context, x: Bounds, apply: Callable[[Array, Array], Array], weight: Array, bias: Array, fan: int
) -> Bounds:
    """Bounds of ``apply(x, weight) + bias``.

    apply: linear in x (N, ...) and in the weight. fan: how many products are summed in one cell of the result.
    """
    middle = apply(x.centre, weight) + bias
    # One call for two batches: the radius, and the magnitudes that rounding errors are proportional to.
    both = apply(np.concatenate([x.radius, x.size]), np.abs(weight))
    spread, magnitude = np.split(both, 2)
    terms = fan + 1
    error = c.gamma(terms) * (magnitude + np.abs(bias))
    return c.rounded(middle - spread, middle + spread, error, terms)


@rule("Conv")
def conv(c: Context) -> Bounds:
    x, weight = c.x(0), c.constant(1)
    bias = c.constant(2).reshape(-1, *[1] * (weight.ndim - 2)) if c.has(2) else np.zeros(())
    return affine(c, x, lambda v, w: convolve(c.node, v, w, None), weight, bias, math.prod(weight.shape[1:]))


@rule("Gemm")
def gemm(c: Context) -> Bounds:
    if c.attr("transA", 0):
        c.fail("it reads the batch transposed")
    weight = c.constant(1)
    weight = c.attr("alpha", 1.0) * (weight.T if c.attr("transB", 0) else weight)
    bias = c.attr("beta", 1.0) * c.constant(2) if c.has(2) else np.zeros(())
    return affine(c, c.x(0), lambda v, w: v @ w, weight, bias, len(weight) + 2)


@rule("MatMul")
def matmul(c: Context) -> Bounds:
    weight, x = c.constant(1), c.x(0)
    if weight.ndim != 2 or len(x.shape) < 2:
        c.fail(f"its weight has shape {list(weight.shape)}, where a matrix was expected")
    return affine(c, x, lambda v, w: v @ w, weight, np.zeros(()), len(weight))


@rule("BatchNormalization")
def batch_normalization(c: Context) -> Bounds:
    """As a factor and a shift per channel. Engines may fold both into the convolution before: its terms count again."""
    if c.attr("training_mode", 0):
        c.fail("it is in training mode")
    x = c.x(0)
    scale, shift, mean, variance = (c.constant(i).reshape(-1, *[1] * (len(x.shape) - 2)) for i in range(1, 5))
    factor = scale / np.sqrt(variance + c.attr("epsilon", 1e-5))
    ends = factor * (x.low - mean) + shift, factor * (x.high - mean) + shift
    terms = x.terms + 5
    error = c.gamma(terms) * (np.abs(factor) * (x.size + np.abs(mean)) + np.abs(shift))
    return c.rounded(np.minimum(*ends), np.maximum(*ends), error, terms)


@rule("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum")
def averages(c: Context) -> Bounds:
    """Sums with weights that are not negative: low of the lows, high of the highs."""
    x = c.x(0)
    low, high, size = (c.evaluate(part)[0] for part in (x.low, x.high, x.size))
    cells = math.prod(c.attr("kernel_shape") or [x.low.size // low.size])
    return c.rounded(low, high, c.gamma(cells + 2) * size, cells + 2)
