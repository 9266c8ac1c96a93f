"""Normalisation layers.

All of them are xhat = (x - mean) / sigma over some axes, then scale and shift. With s the
gradient times the scale, the gradient is (s - mean(s) - xhat * mean(s * xhat)) / sigma; the
terms with the mean vanish for the kinds that do not centre.
"""

from __future__ import annotations

import numpy as np

from ...graph import Shape
from ..emitter import Value
from ..registry import Context, Gradients, rule

__all__: list[str] = []


class Standardised:
    """xhat and 1 / sigma of `x` over `axes`, written once and shared with other uses."""

    def __init__(self, c: Context, x: Value, axes: list[int], epsilon: float, *, centred: bool = True) -> None:
        self.c, self.axes, self.centred = c, axes, centred
        e = c.e
        middle = x - e.reduce("ReduceMean", x, axes) if centred else x
        variance = e.reduce("ReduceMean", middle * middle, axes)
        self.inverse = e("Reciprocal", e("Sqrt", variance + epsilon))
        self.xhat = middle * self.inverse

    def gradient(self, s: Value) -> Value:
        """Gradient of x, given that of xhat (axes along which it is constant may be 1)."""
        c = self.c
        inner = s - self.xhat * c.e.reduce("ReduceMean", s * self.xhat, self.axes)
        if self.centred:
            inner = inner - c.e.reduce("ReduceMean", s, [a for a in self.axes if s.dims[a] != 1])
        return inner * self.inverse


@rule("BatchNormalization")
def batch_normalization(c: Context) -> Gradients:
    """Inference form: a scale and a shift per channel."""
    if c.attr("training_mode", 0):
        c.fail("it is in training mode")
    if c.wanted & {3, 4}:
        c.fail("its statistics depend on the layer")
    e, x = c.e, c.x()
    shape: Shape = (-1, *[1] * (x.rank - 2))

    def per_channel(value: Value) -> Value:
        if x.rank == 2:
            return value
        return e("Reshape", value, e.ints([int(d or 0) for d in shape]), shape=(*value.dims, *shape[1:]))

    inverse = e("Reciprocal", e("Sqrt", c.x(4) + c.attr("epsilon", 1e-5)))
    others = [0, *range(2, x.rank)]

    def scale_gradient() -> Value:
        xhat = (x - per_channel(c.x(3))) * per_channel(inverse)
        return e.squeeze(e.reduce("ReduceSum", c.g * xhat, others), others)

    return {
        0: lambda: c.g * per_channel(c.x(1) * inverse),
        1: scale_gradient,
        2: lambda: e.squeeze(c.sum_over(c.g, c.y(), others), others),
    }


@rule("InstanceNormalization")
def instance_normalization(c: Context) -> Gradients:
    e, x = c.e, c.x()
    axes = list(range(2, x.rank))
    others = [0, *axes]
    form = Standardised(c, x, axes, c.attr("epsilon", 1e-5))
    scale = e("Reshape", c.x(1), e.ints([-1, *[1] * len(axes)]))
    return {
        0: lambda: form.gradient(c.g * scale),
        1: lambda: e.squeeze(e.reduce("ReduceSum", c.g * form.xhat, others), others),
        2: lambda: e.squeeze(c.sum_over(c.g, c.y(), others), others),
    }


@rule("LayerNormalization")
def layer_normalization(c: Context) -> Gradients:
    if any(g is not None for g in c.gradients[1:]):
        c.fail("its mean or deviation output is used on the path")
    x = c.x()
    axes = list(range(c.axis(c.attr("axis", -1), x.rank), x.rank))
    form = Standardised(c, x, axes, c.attr("epsilon", 1e-5))
    return {
        0: lambda: form.gradient(c.g * c.x(1) if c.has(1) else c.g),
        1: lambda: c.sum_to(c.g * form.xhat, c.y(), c.x(1)),
        2: lambda: c.sum_to(c.g, c.y(), c.x(2)),
    }


@rule("RMSNormalization")
def rms_normalization(c: Context) -> Gradients:
    """x / sqrt(mean(x^2) + epsilon) * scale."""
    x = c.x()
    axes = list(range(c.axis(c.attr("axis", -1), x.rank), x.rank))
    form = Standardised(c, x, axes, c.attr("epsilon", 1e-5), centred=False)
    return {
        0: lambda: form.gradient(c.g * c.x(1) if c.has(1) else c.g),
        1: lambda: c.sum_to(c.g * form.xhat, c.y(), c.x(1)),
    }


@rule("GroupNormalization")
def group_normalization(c: Context) -> Gradients:
    """Scale and shift are per channel from opset 21 on, per group before."""
    e, x = c.e, c.x()
    groups, rank = c.attr("num_groups"), x.rank
    channels = c.static(x, [1], "the number of channels")[0]
    split = (x.dims[0], groups, channels // groups, *x.dims[2:])
    back = [0, 1, 1, *range(2, rank)]
    axes = list(range(2, rank + 1))
    form = Standardised(c, e.reshape(x, x, split, back), axes, c.attr("epsilon", 1e-5))
    per_channel = c.graph.opset >= 21
    scale_dims = [groups, channels // groups if per_channel else 1, *[1] * (rank - 2)]
    spatial = list(range(2, rank))

    def split_gradient(g: Value) -> Value:
        g = e.expand(g, c.y(), [0, 1])
        dims = (*split[:3], *g.dims[2:])
        return e.reshape(g, g, dims, back)

    def input_gradient() -> Value:
        scale = e("Reshape", c.x(1), e.ints(scale_dims), shape=tuple(scale_dims))
        return e.reshape(form.gradient(split_gradient(c.g) * scale), x, x.dims)

    def per_scale(value: Value) -> Value:
        summed = e.reduce("ReduceSum", value, [0, *range(3, rank + 1)])
        if not per_channel:
            summed = e.reduce("ReduceSum", summed, [2])
        return e("Reshape", summed, e.ints([-1]), shape=c.x(1).shape)

    def shift_gradient() -> Value:
        return per_scale(split_gradient(c.sum_over(c.g, c.y(), spatial)))

    return {0: input_gradient, 1: lambda: per_scale(split_gradient(c.g) * form.xhat), 2: shift_gradient}


@rule("LpNormalization")
def lp_normalization(c: Context) -> Gradients:
    """0 where the norm is 0."""
    e, x, y = c.e, c.x(), c.y()
    axis = c.axis(c.attr("axis", -1), x.rank)
    absolute = c.attr("p", 2) == 1
    norm = e.reduce("ReduceL1" if absolute else "ReduceL2", x, [axis])
    safe = e.where(norm > 0, norm, 1.0)
    along = e.reduce("ReduceSum", c.g * y, [axis])
    direction = e("Sign", x) if absolute else y
    return {0: e.where(norm > 0, (c.g - direction * along) / safe, 0.0)}


@rule("LRN")
def lrn(c: Context) -> Gradients:
    """y = x * d^-beta with d = bias + alpha / size * (sum of x^2 over neighbouring channels)."""
    e, x = c.e, c.x()
    size, alpha, beta = c.attr("size"), c.attr("alpha", 1e-4), c.attr("beta", 0.75)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    channels = c.static(x, [1], "the number of channels")[0]

    def neighbours(value: Value, low: int, high: int) -> Value:
        """Sum over channels c - low .. c + high."""
        line = e("Reshape", value, e.ints([0, 1, channels, -1]), shape=(x.dims[0], 1, channels, None))
        ones = e.constant(np.ones((1, 1, size, 1), x.dtype))
        summed = e("Conv", line, ones, pads=[low, 0, high, 0], kernel_shape=[size, 1])
        return e.reshape(summed, x, x.dims)

    scale = neighbours(x * x, before, after) * (alpha / size) + c.attr("bias", 1.0)
    power = scale ** (-beta)
    # Who reads channel c as a neighbour: the window turned round.
    shared = neighbours(c.g * x * power / scale, after, before)
    return {0: c.g * power - x * shared * (2 * alpha * beta / size)}


@rule("MeanVarianceNormalization")
def mean_variance_normalization(c: Context) -> Gradients:
    x = c.x()
    form = Standardised(c, x, c.axes(c.attr("axes") or [0, 2, 3], x.rank), 1e-18)
    return {0: form.gradient(c.g)}
