"""Attention as ONNX Runtime's optimiser writes it (domain com.microsoft), written out.

Source of their meaning: ONNX Runtime's ContribOperators documentation.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..emitter import Value
from ..registry import Context
from ..rewriting import rewrite
from .attention import causal_bias, merge_heads, scaled_dot_product, split_heads

__all__: list[str] = []

_MS = "com.microsoft"


@rewrite("MultiHeadAttention", domain=_MS)
def multi_head_attention(c: Context) -> list[Value | None]:
    """Inputs: query, key, value, bias of the projections, padding mask, attention bias, past key and value.

    Query alone may hold all three as (N, T, heads, 3, D), and key both as (N, T, heads, 2, D).
    """
    if any(c.has(i) for i in (6, 7, 8, 9)) or any(c.node.output[1:]):
        c.fail("it has a cache of past keys, or gives out more than its result")
    heads, e = c.attr("num_heads"), c.e
    if not c.has(1):
        q, k, v = _unpacked(c, c.x(0), 3)
    elif not c.has(2):
        q = c.x(0)
        k, v = _unpacked(c, c.x(1), 2)
    else:
        q, k, v = c.x(0), c.x(1), c.x(2)
    if c.has(3):
        if any(t.rank != 3 for t in (q, k, v)):
            c.fail("it adds a bias to packed projections")
        widths = [c.static(t, [2], "the width of its heads")[0] for t in (q, k, v)]
        parts = e.many("Split", c.x(3), e.ints(widths), outputs=3, axis=0)
        q, k, v = q + parts[0], k + parts[1], v + parts[2]
    q, k, v = (split_heads(c, t, heads) if t.rank == 3 else t for t in (q, k, v))
    bias = _bias(c, q, k, mask=4, added=5)
    out, _ = scaled_dot_product(c, q, k, v, scale=c.attr("scale") or None, bias=bias)
    return [merge_heads(c, out)]


def _unpacked(c: Context, value: Value, count: int) -> list[Value]:
    """(N, T, heads, count, D) -> count times (N, heads, T, D)."""
    if value.rank != 5:
        c.fail(f"its packed projections have rank {value.rank}, expected (N, T, heads, {count}, D)")
    parts = c.e.many("Split", value, c.e.ints([1] * count), outputs=count, axis=3)
    return [c.e.transpose(c.e.squeeze(p, [3]), [0, 2, 1, 3]) for p in parts]


@rewrite("Attention", domain=_MS)
def packed_attention(c: Context) -> list[Value | None]:
    """Inputs: input (N, T, I), weights (I, 3 * H * D), bias, mask, past, attention bias."""
    if c.has(4) or any(c.node.output[1:]) or c.attr("do_rotary", 0):
        c.fail("it has rotary positions or a cache of past keys")
    heads, sizes = c.attr("num_heads"), c.attr("qkv_hidden_sizes")
    projected = c.e("MatMul", c.x(0), c.x(1))
    if c.has(2):
        projected = projected + c.x(2)
    width = c.static(c.x(1), [1], "the width of its weights")[0]
    parts = c.e.many("Split", projected, c.e.ints(sizes or [width // 3] * 3), outputs=3, axis=2)
    q, k, v = (split_heads(c, t, heads) for t in parts)
    bias = _bias(c, q, k, mask=3, added=5)
    out, _ = scaled_dot_product(c, q, k, v, scale=c.attr("scale") or None, bias=bias)
    return [merge_heads(c, out)]


def _bias(c: Context, q: Value, k: Value, *, mask: int, added: int) -> Value | None:
    """Everything that is added to the scores: padding mask, attention bias, causal triangle."""
    e, terms = c.e, []
    if c.has(mask):
        shown = c.x(mask)
        if shown.rank not in (2, 3):
            c.fail("its mask holds lengths or has four axes; one of shape (N, keys) or (N, queries, keys) works")
        axes = [1, 2] if shown.rank == 2 else [1]
        kept = e.cast(shown, TensorProto.INT32) > 0
        hidden = e.constant(np.array(c.attr("mask_filter_value", -10000.0), q.dtype))
        terms.append(e.unsqueeze(e.where(kept, e.constant(np.array(0, q.dtype)), hidden), axes))
    if c.has(added):
        terms.append(c.x(added))
    if c.attr("unidirectional", 0):
        terms.append(causal_bias(c, q, k))
    total: Value | None = None
    for term in terms:
        total = term if total is None else total + term
    return total
