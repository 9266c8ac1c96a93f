"""Operators that ONNX Runtime's optimiser writes (domain com.microsoft) and old copies of standard ones.

They are written out in standard operators. Source of their meaning: ONNX Runtime's
ContribOperators documentation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..emitter import Value
from ..registry import Context
from ..rewriting import rewrite

__all__: list[str] = []

_MS = "com.microsoft"


def _gelu(c: Context, x: Value) -> Value:
    return x * ((c.e("Erf", x * math.sqrt(0.5)) + 1) * 0.5)


def _fast_gelu(c: Context, x: Value) -> Value:
    k = math.sqrt(2 / math.pi)
    return x * 0.5 * (c.e("Tanh", x * (x * x * (k * 0.044715) + k)) + 1)


@rewrite("Gelu", domain=_MS)
def gelu(c: Context) -> list[Value | None]:
    return [_gelu(c, c.x())]


@rewrite("BiasGelu", domain=_MS)
def bias_gelu(c: Context) -> list[Value | None]:
    return [_gelu(c, c.x(0) + c.x(1))]


@rewrite("FastGelu", domain=_MS)
def fast_gelu(c: Context) -> list[Value | None]:
    return [_fast_gelu(c, c.x(0) + c.x(1) if c.has(1) else c.x(0))]


@rewrite("BiasAdd", domain=_MS)
def bias_add(c: Context) -> list[Value | None]:
    return [c.x(0) + c.x(1) + c.x(2)]


@rewrite("BiasSplitGelu", domain=_MS)
def bias_split_gelu(c: Context) -> list[Value | None]:
    """The left half of the last axis times the Gelu of the right half."""
    x = c.x(0) + c.x(1)
    half = c.static(x, [x.rank - 1], "the width that it splits")[0] // 2
    left, right = c.e.many("Split", x, c.e.ints([half, half]), outputs=2, axis=-1)
    return [left * _gelu(c, right)]


@rewrite("QuickGelu", domain=_MS)
def quick_gelu(c: Context) -> list[Value | None]:
    return [c.x() * c.e("Sigmoid", c.x() * c.attr("alpha", 1.702))]


_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _settings(c: Context, names: tuple[str, ...]) -> dict[str, Any]:
    """The attributes that are given, to be handed on."""
    return {n: v for n in names if (v := c.attr(n)) is not None}


@rewrite("FusedConv", domain=_MS)
def fused_conv(c: Context) -> list[Value | None]:
    """Inputs: X, W, bias, and a value that is added before the activation."""
    inputs = [c.x(0), c.x(1), *([c.x(2)] if c.has(2) else [])]
    value = c.e("Conv", *inputs, shape=c.y().shape, **_settings(c, _WINDOW))
    if c.has(3):
        value = value + c.x(3)
    return [_activated(c, value)]


@rewrite("NhwcConv", "NhwcFusedConv", domain=_MS)
def nhwc_conv(c: Context) -> list[Value | None]:
    """Channels last: NhwcConv's weight as (M, *kernel, C / group), NhwcFusedConv's as in Conv."""
    e, rank = c.e, c.x(1).rank
    first, last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    weight = c.x(1) if c.node.op_type == "NhwcFusedConv" else e.transpose(c.x(1), first)
    image = e("Transpose", c.x(0), perm=first)
    value = e("Conv", image, weight, *([c.x(2)] if c.has(2) else []), **_settings(c, _WINDOW))
    value = e("Transpose", value, perm=last)
    if c.has(3):
        value = value + c.x(3)
    return [_activated(c, value)]


@rewrite("NhwcMaxPool", domain=_MS)
def nhwc_max_pool(c: Context) -> list[Value | None]:
    n = len(c.attr("kernel_shape")) + 2
    names = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    image = c.e("Transpose", c.x(0), perm=[0, n - 1, *range(1, n - 1)])
    pooled = c.e("MaxPool", image, **_settings(c, names))
    return [c.e("Transpose", pooled, perm=[0, *range(2, n), 1])]


@rewrite("FusedGemm", domain=_MS)
def fused_gemm(c: Context) -> list[Value | None]:
    inputs = [c.x(0), c.x(1), *([c.x(2)] if c.has(2) else [])]
    return [_activated(c, c.e("Gemm", *inputs, **_settings(c, ("alpha", "beta", "transA", "transB"))))]


_ACTIVATIONS = {
    "Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh",
}  # fmt: skip


def _activated(c: Context, value: Value) -> Value:
    """`value` behind the activation that the node names; the optimiser writes its settings in three ways."""
    e, kind = c.e, c.attr("activation")
    numbers = c.attr("activation_params") or []

    def setting(position: int, name: str, default: float) -> float:
        return numbers[position] if position < len(numbers) else c.attr(f"activation_{name}", default)

    if kind and kind not in _ACTIVATIONS:
        c.fail(f"its activation '{kind}' is unknown")
    if kind in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish"):
        return e(kind, value)
    if kind == "LeakyRelu":
        return e("LeakyRelu", value, alpha=setting(0, "alpha", 0.01))
    if kind == "HardSigmoid":
        return e("HardSigmoid", value, alpha=setting(0, "alpha", 0.2), beta=setting(1, "beta", 0.5))
    if kind == "Elu":
        return e("Elu", value, alpha=setting(0, "alpha", 1.0))
    if kind == "Clip":
        bounds = [e.constant(np.array(n, value.dtype)) for n in numbers]
        return e("Clip", value, *bounds)
    return value


@rewrite("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=_MS)
def fused_matmul(c: Context) -> list[Value | None]:
    """trans: the last two axes change places; transBatch: the first axis moves before the last, ahead of that."""
    sides = []
    for side, value in (("A", c.x(0)), ("B", c.x(1))):
        if c.attr(f"transBatch{side}", 0):
            rank = value.rank
            value = c.e.transpose(value, [*range(1, rank - 1), 0, rank - 1])
        sides.append(_last_two(c, value) if c.attr(f"trans{side}", 0) else value)
    return [_activated(c, c.e("MatMul", *sides) * c.attr("alpha", 1.0))]


@rewrite("GemmFastGelu", domain=_MS)
def gemm_fast_gelu(c: Context) -> list[Value | None]:
    product = c.e("MatMul", c.x(0), c.x(1))
    return [_fast_gelu(c, product + c.x(2) if c.has(2) else product)]


@rewrite("BiasSoftmax", domain=_MS)
def bias_softmax(c: Context) -> list[Value | None]:
    if c.axis(c.attr("axis", 1), c.x().rank) != c.x().rank - 1:
        c.fail("its softmax goes over more than the last axis")
    return [c.e("Softmax", c.x(0) + c.x(1), axis=-1)]


def _last_two(c: Context, value: Value) -> Value:
    rank = value.rank
    return c.e.transpose(value, [*range(rank - 2), rank - 1, rank - 2])


def _layer_norm(c: Context, x: Value, scale: Value, shift: Value | None) -> Value:
    e = c.e
    if c.graph.opset >= 17:
        inputs = [x, scale, *([shift] if shift is not None else [])]
        return e("LayerNormalization", *inputs, axis=-1, epsilon=c.attr("epsilon", 1e-5))
    middle = x - e.reduce("ReduceMean", x, [x.rank - 1])
    deviation = e("Sqrt", e.reduce("ReduceMean", middle * middle, [x.rank - 1]) + c.attr("epsilon", 1e-5))
    value = middle / deviation * scale
    return value if shift is None else value + shift


def _rms_norm(c: Context, x: Value, scale: Value) -> Value:
    e = c.e
    mean = e.reduce("ReduceMean", x * x, [x.rank - 1])
    return x / e("Sqrt", mean + c.attr("epsilon", 1e-5)) * scale


@rewrite("SkipLayerNormalization", domain=_MS)
def skip_layer_norm(c: Context) -> list[Value | None]:
    """Inputs: input, skip, gamma, beta, bias; the fourth output is the sum itself."""
    x = c.x(0) + c.x(1)
    if c.has(4):
        x = x + c.x(4)
    return [_layer_norm(c, x, c.x(2), c.x(3) if c.has(3) else None), None, None, x]


@rewrite("SkipSimplifiedLayerNormalization", domain=_MS)
def skip_rms_norm(c: Context) -> list[Value | None]:
    x = c.x(0) + c.x(1)
    if c.has(3):
        x = x + c.x(3)
    return [_rms_norm(c, x, c.x(2)), None, None, x]


@rewrite("SimplifiedLayerNormalization")
def simplified_layer_norm(c: Context) -> list[Value | None]:
    """An unregistered copy of RMSNormalization that ONNX Runtime puts into the default domain."""
    if c.axis(c.attr("axis", -1), c.x().rank) != c.x().rank - 1:
        c.fail("it normalises more than the last axis")
    return [_rms_norm(c, c.x(0), c.x(1))]


@rewrite("GroupNorm", "SkipGroupNorm", domain=_MS)
def group_norm(c: Context) -> list[Value | None]:
    """Scale and shift per channel, channels last unless told otherwise; SkipGroupNorm adds before it normalises."""
    e, x, last = c.e, c.x(0), bool(c.attr("channels_last", 1))
    if c.node.op_type == "SkipGroupNorm":
        skip = c.x(3)
        if skip.rank == 2:
            skip = e.unsqueeze(skip, [1, 2] if last else [2, 3])
        x = x + skip
        if c.has(4):
            x = x + (c.x(4) if last else e.unsqueeze(c.x(4), [1, 2]))
    total = x
    groups, rank = c.attr("groups"), x.rank
    if last:
        x = e.transpose(x, [0, rank - 1, *range(1, rank - 1)])
    flat = e("Reshape", x, e.ints([0, groups, -1]))
    ones, zeros = (e.constant(np.full(groups, v, x.dtype)) for v in (1, 0))
    normal = e("InstanceNormalization", flat, ones, zeros, epsilon=c.attr("epsilon", 1e-5))
    back = e.reshape(normal, x, x.dims)
    if last:
        back = e.transpose(back, [0, *range(2, rank), 1])
    scale, shift = c.x(1), c.x(2)
    if not last:
        scale, shift = (e.unsqueeze(v, list(range(1, rank - 1))) for v in (scale, shift))
    value = back * scale + shift
    if c.attr("activation", 0):
        value = value * e("Sigmoid", value)
    return [value, total]
