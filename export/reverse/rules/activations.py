"""Activation functions.

Where the derivative can be told from the output, it is: the input then has one consumer only,
and the engine can still fuse the activation into the convolution before it.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from ..emitter import Value
from ..registry import Context, Gradients, rule

__all__: list[str] = []


@rule("Relu")
def relu(c: Context) -> Gradients:
    """0 at 0, as in PyTorch."""
    return {0: c.e.masked(c.y() > 0, c.g)}


@rule("LeakyRelu")
def leaky_relu(c: Context) -> Gradients:
    alpha = c.attr("alpha", 0.01)
    source = c.y() if alpha > 0 else c.x()
    slope = c.e.cast(source > 0, c.g.kind) * (1 - alpha) + alpha
    return {0: c.g * slope}


@rule("PRelu", broadcasting=True)
def prelu(c: Context) -> Gradients:
    positive = c.x() > 0
    return {
        0: lambda: c.e.where(positive, c.g, c.g * c.x(1)),
        1: lambda: c.e.where(positive, 0.0, c.g * c.x()),
    }


@rule("Elu")
def elu(c: Context) -> Gradients:
    alpha = c.attr("alpha", 1.0)
    if alpha > 0:
        return {0: c.e.where(c.y() > 0, c.g, c.g * (c.y() + alpha))}
    return {0: c.e.where(c.x() > 0, c.g, c.g * (c.e("Exp", c.e.where(c.x() > 0, 0.0, c.x())) * alpha))}


@rule("Celu")
def celu(c: Context) -> Gradients:
    alpha = c.attr("alpha", 1.0)
    small = c.e("Exp", c.e.where(c.x() > 0, 0.0, c.x()) * (1 / alpha))
    return {0: c.g * small}


@rule("Selu")
def selu(c: Context) -> Gradients:
    alpha, gamma = c.attr("alpha", 1.67326319217681884765625), c.attr("gamma", 1.05070102214813232421875)
    return {0: c.e.where(c.y() > 0, c.g * gamma, c.g * (c.y() + alpha * gamma))}


@rule("ThresholdedRelu")
def thresholded_relu(c: Context) -> Gradients:
    return {0: c.e.masked(c.x() > c.attr("alpha", 1.0), c.g)}


@rule("Shrink")
def shrink(c: Context) -> Gradients:
    return {0: c.e.masked(c.e("Abs", c.x()) > c.attr("lambd", 0.5), c.g)}


@rule("Clip")
def clip(c: Context) -> Gradients:
    """Zero at the bounds themselves, as PyTorch's ReLU6 and Hardtanh (its clamp passes them)."""
    if 1 in c.wanted or 2 in c.wanted:
        c.fail("its bounds depend on the layer")
    low, high = c.attr("min") if not c.has(1) else c.x(1), c.attr("max") if not c.has(2) else c.x(2)
    inside: Value | None = None
    if low is not None:
        inside = c.y() > low
    if high is not None:
        below = c.y() < high
        inside = below if inside is None else inside & below
    return {0: c.g if inside is None else c.e.masked(inside, c.g)}


@rule("Sigmoid")
def sigmoid(c: Context) -> Gradients:
    return {0: c.g * (_sigmoid_slope(c, c.x()) if _is_vector(c.y()) else c.y() * (1 - c.y()))}


@rule("Tanh")
def tanh(c: Context) -> Gradients:
    return {0: c.g * (_sigmoid_slope(c, c.x() * 2.0) * 4.0 if _is_vector(c.y()) else 1 - c.y() * c.y())}


def _is_vector(y: Value) -> bool:
    """Whether y may be a head's output (N, C): there a saturated slope is all that is left of the gradient."""
    return y.shape is not None and len(y.shape) <= 2


def _sigmoid_slope(c: Context, x: Value) -> Value:
    """d/dx of sigmoid(x), exact where the sigmoid has rounded to 1: e / (1 + e)^2 with e = exp(-|x|)."""
    e = c.e("Exp", c.e("Abs", x) * -1.0)
    one_more = e + 1
    return e / (one_more * one_more)


@rule("HardSigmoid")
def hard_sigmoid(c: Context) -> Gradients:
    slope = c.attr("alpha", 0.2)
    inside = (c.y() > 0) & (c.y() < 1)
    return {0: c.e.masked(inside, c.g * slope)}


@rule("HardSwish")
def hard_swish(c: Context) -> Gradients:
    """x times its hard sigmoid h: h + x / 6 between -3 and 3, where x / 6 is h - 1/2, and h itself (0 or 1) outside.

    Engines compute HardSwish from the same h, which is then shared. Attributes are float32, in which 1/6 is off by
    3e-8: in float64 h is written out.
    """
    x = c.x()
    if x.kind == TensorProto.DOUBLE:
        gate = c.e("Clip", x / 6.0 + 0.5, c.e.constant(np.array(0.0)), c.e.constant(np.array(1.0)))
    else:
        gate = c.e("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return {0: c.g * (gate + c.e.masked((x > -3.0) & (x < 3.0), gate - 0.5))}


@rule("Swish")
def swish(c: Context) -> Gradients:
    alpha = c.attr("alpha", 1.0)
    return {0: c.g * swish_slope(c, c.x(), alpha)}


def swish_slope(c: Context, x: Value, alpha: float) -> Value:
    """d/dx of x * sigmoid(alpha * x)."""
    gate = c.e("Sigmoid", x * alpha)
    return gate * (x * alpha * (1 - gate) + 1)


@rule("Mish")
def mish(c: Context) -> Gradients:
    x = c.x()
    t = c.e("Tanh", c.e("Softplus", x))
    return {0: c.g * (t + x * c.e("Sigmoid", x) * (1 - t * t))}


@rule("Gelu")
def gelu(c: Context) -> Gradients:
    return {0: c.g * gelu_slope(c, c.x(), tanh_form=c.attr("approximate", "none") == "tanh")}


def gelu_slope(c: Context, x: Value, *, tanh_form: bool) -> Value:
    """d/dx of x * Phi(x), with the exact Phi or its tanh form (Hendrycks and Gimpel 2016)."""
    if not tanh_form:
        cdf = (c.e("Erf", x * math.sqrt(0.5)) + 1) * 0.5
        return cdf + x * c.e("Exp", x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    k, cubic = math.sqrt(2 / math.pi), 0.044715
    squared = x * x
    t = c.e("Tanh", x * (squared * (k * cubic) + k))
    return (t + 1) * 0.5 + x * 0.5 * (1 - t * t) * (squared * (3 * k * cubic) + k)


@rule("Softplus")
def softplus(c: Context) -> Gradients:
    return {0: c.g * c.e("Sigmoid", c.x())}


@rule("Softsign")
def softsign(c: Context) -> Gradients:
    scale = c.e("Abs", c.x()) + 1
    return {0: c.g / (scale * scale)}
