"""Operators that ONNX Runtime's optimiser writes (domain com.microsoft) and old copies of standard ones.

They are written out in standard operators. Source of their meaning: ONNX Runtime's
ContribOperators documentation.
"""

from __future__ import annotations

import math

import numpy as np

from ..emitter import Value
from ..registry import Context
from ..rewriting import rewrite
from .attention import merge_heads, scaled_dot_product, split_heads

__all__: list[str] = []

_MS = "com.microsoft"


def _gelu(c: Context, x: Value) -> Value:
    return x * ((c.e("Erf", x * math.sqrt(0.5)) + 1) * 0.5)


@rewrite("Gelu", _MS)
def gelu(c: Context) -> list[Value | None]:
    return [_gelu(c, c.x())]


@rewrite("BiasGelu", _MS)
def bias_gelu(c: Context) -> list[Value | None]:
    return [_gelu(c, c.x(0) + c.x(1))]


@rewrite("FastGelu", _MS)
def fast_gelu(c: Context) -> list[Value | None]:
    x = c.x(0) + c.x(1) if c.has(1) else c.x(0)
    k = math.sqrt(2 / math.pi)
    return [x * 0.5 * (c.e("Tanh", x * (x * x * (k * 0.044715) + k)) + 1)]


@rewrite("QuickGelu", _MS)
def quick_gelu(c: Context) -> list[Value | None]:
    return [c.x() * c.e("Sigmoid", c.x() * c.attr("alpha", 1.702))]


@rewrite("FusedConv", _MS)
def fused_conv(c: Context) -> list[Value | None]:
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    settings = {n: v for n in names if (v := c.attr(n)) is not None}
    inputs = [c.x(0), c.x(1), *([c.x(2)] if c.has(2) else [])]
    shape = c.y().shape
    value = c.e("Conv", *inputs, shape=shape, **settings)
    if c.has(3):
        value = value + c.x(3)
    return [_activated(c, value)]


@rewrite("FusedGemm", _MS)
def fused_gemm(c: Context) -> list[Value | None]:
    settings = {n: v for n in ("alpha", "beta", "transA", "transB") if (v := c.attr(n)) is not None}
    inputs = [c.x(0), c.x(1), *([c.x(2)] if c.has(2) else [])]
    return [_activated(c, c.e("Gemm", *inputs, **settings))]


def _activated(c: Context, value: Value) -> Value:
    e, kind, numbers = c.e, c.attr("activation"), c.attr("activation_params") or []
    if not kind:
        return value
    if kind in ("Relu", "Sigmoid", "Tanh"):
        return e(kind, value)
    if kind == "LeakyRelu":
        return e("LeakyRelu", value, alpha=numbers[0] if numbers else c.attr("activation_alpha", 0.01))
    if kind == "HardSigmoid":
        return e("HardSigmoid", value, alpha=numbers[0], beta=numbers[1])
    if kind == "Clip":
        bounds = [e.constant(np.array(n, value.dtype)) for n in numbers]
        return e("Clip", value, *bounds)
    c.fail(f"its activation '{kind}' is unknown")
    return None


@rewrite("FusedMatMul", _MS)
def fused_matmul(c: Context) -> list[Value | None]:
    if c.attr("transBatchA", 0) or c.attr("transBatchB", 0):
        c.fail("it transposes the batch")
    a, b = c.x(0), c.x(1)
    if c.attr("transA", 0):
        a = _last_two(c, a)
    if c.attr("transB", 0):
        b = _last_two(c, b)
    return [c.e("MatMul", a, b) * c.attr("alpha", 1.0)]


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


@rewrite("SkipLayerNormalization", _MS)
def skip_layer_norm(c: Context) -> list[Value | None]:
    """Inputs: input, skip, gamma, beta, bias; the fourth output is the sum itself."""
    x = c.x(0) + c.x(1)
    if c.has(4):
        x = x + c.x(4)
    return [_layer_norm(c, x, c.x(2), c.x(3) if c.has(3) else None), None, None, x]


@rewrite("SkipSimplifiedLayerNormalization", _MS)
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


@rewrite("MultiHeadAttention", _MS)
def multi_head_attention(c: Context) -> list[Value | None]:
    """Inputs: query, key, value (N, T, heads * D), bias, mask, attention bias."""
    if any(c.has(i) for i in (4, 6, 7)) or any(c.node.output[1:]) or c.attr("unidirectional", 0):
        c.fail("it has a padding mask, a causal mask or a cache of past keys")
    if not (c.has(1) and c.has(2)) or any(c.x(i).rank != 3 for i in range(3)):
        c.fail("its query, key and value are packed")
    heads = c.attr("num_heads")
    q, k, v = c.x(0), c.x(1), c.x(2)
    if c.has(3):
        widths = [c.static(t, [2], "the width of its heads")[0] for t in (q, k, v)]
        parts = c.e.many("Split", c.x(3), c.e.ints(widths), outputs=3, axis=0)
        q, k, v = q + parts[0], k + parts[1], v + parts[2]
    q, k, v = (split_heads(c, t, heads) for t in (q, k, v))
    bias = c.x(5) if c.has(5) else None
    out, _ = scaled_dot_product(c, q, k, v, scale=c.attr("scale") or None, bias=bias)
    return [merge_heads(c, out)]


@rewrite("Attention", _MS)
def packed_attention(c: Context) -> list[Value | None]:
    """Inputs: input (N, T, I), weights (I, 3 * H * D), bias, mask, past, attention bias."""
    if c.has(3) or c.has(4) or any(c.node.output[1:]) or c.attr("unidirectional", 0) or c.attr("do_rotary", 0):
        c.fail("it has a mask, rotary positions or a cache of past keys")
    heads, sizes = c.attr("num_heads"), c.attr("qkv_hidden_sizes")
    projected = c.e("MatMul", c.x(0), c.x(1))
    if c.has(2):
        projected = projected + c.x(2)
    width = c.static(c.x(1), [1], "the width of its weights")[0]
    parts = c.e.many("Split", projected, c.e.ints(sizes or [width // 3] * 3), outputs=3, axis=2)
    q, k, v = (split_heads(c, t, heads) for t in parts)
    bias = c.x(5) if c.has(5) else None
    out, _ = scaled_dot_product(c, q, k, v, scale=c.attr("scale") or None, bias=bias)
    return [merge_heads(c, out)]
