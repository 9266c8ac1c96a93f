"""Attention (opset 23): written out as products and a softmax, whose rules then apply.

The fused operator does not give out its probabilities in training precision; written out,
forward and backward share them.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from ..emitter import Value
from ..registry import Context
from ..rewriting import rewrite

__all__ = ["causal_bias", "merge_heads", "scaled_dot_product", "split_heads"]

# Cells of a causal mask that is stored as a constant.
_LARGEST_TRIANGLE = 1 << 20


def split_heads(c: Context, value: Value, heads: int) -> Value:
    """(N, T, heads * D) -> (N, heads, T, D)."""
    width = c.static(value, [2], "the width of its heads")[0] // heads
    shape = (*value.dims[:2], heads, width)
    tall = c.e("Reshape", value, c.e.ints([0, 0, heads, width]), shape=shape)
    return c.e.transpose(tall, [0, 2, 1, 3])


def merge_heads(c: Context, value: Value) -> Value:
    """(N, heads, T, D) -> (N, T, heads * D)."""
    _, heads, _, width = value.dims
    turned = c.e.transpose(value, [0, 2, 1, 3])
    if not isinstance(heads, int) or not isinstance(width, int):
        return c.e("Reshape", turned, c.e.ints([0, 0, -1]))
    return c.e("Reshape", turned, c.e.ints([0, 0, heads * width]), shape=(*turned.dims[:2], heads * width))


def scaled_dot_product(
    c: Context, q: Value, k: Value, v: Value, *, scale: float | None, bias: Value | None = None, softcap: float = 0.0
) -> tuple[Value, Value]:
    """softmax(q k^T * scale + bias) v for (N, heads, T, D): (output, probabilities)."""
    e = c.e
    if scale is None:
        scale = 1 / math.sqrt(c.static(q, [3], "the width of its heads")[0])
    scores = e("MatMul", q * scale, e.transpose(k, [0, 1, 3, 2]))
    if softcap:
        scores = e("Tanh", scores * (1 / softcap)) * softcap
    if bias is not None:
        scores = scores + bias
    probabilities = e("Softmax", scores, axis=-1)
    return e("MatMul", probabilities, v), probabilities


def causal_bias(c: Context, q: Value, k: Value, past: int | Value = 0) -> Value:
    """(queries, keys): the lowest number where the key comes after the query, else 0."""
    rows, columns = c.static(q, [2], "its length")[0], c.static(k, [2], "its length")[0]
    if rows * columns > _LARGEST_TRIANGLE:
        c.fail("its causal mask would be too large")
    if isinstance(past, Value):
        c.fail("it is causal and its past has an unknown length")
    return c.e.constant(np.triu(np.full((rows, columns), _lowest(q), q.dtype), 1 + past))


def _lowest(value: Value) -> float:
    return float(np.finfo(value.dtype).min)


@rewrite("Attention")
def attention(c: Context) -> list[Value | None]:
    """Inputs: query, key, value, mask, past key, past value, lengths of the keys (opset 24)."""
    e = c.e
    if c.attr("left_window_size", -1) >= 0 or c.attr("right_window_size", -1) >= 0:
        c.fail("it looks at a sliding window only")
    q, k, v = c.x(0), c.x(1), c.x(2)
    flat = q.rank == 3
    q_heads, kv_heads = c.attr("q_num_heads"), c.attr("kv_num_heads")
    if flat:
        if not q_heads or not kv_heads:
            c.fail("three-dimensional inputs need q_num_heads and kv_num_heads")
        q, k, v = split_heads(c, q, q_heads), split_heads(c, k, kv_heads), split_heads(c, v, kv_heads)
    else:
        q_heads, kv_heads = (c.static(value, [1], "the number of heads")[0] for value in (q, k))
    past: int | Value = 0
    if c.has(4):
        past = e.dim(c.x(4), 2)
        k, v = e("Concat", c.x(4), k, axis=2), e("Concat", c.x(5), v, axis=2)
    present = (k, v)
    if kv_heads != q_heads:
        k, v = (_repeat_heads(c, value, q_heads // kv_heads) for value in (k, v))
    bias = _mask(c, q, k, past)
    out, _ = scaled_dot_product(c, q, k, v, scale=c.attr("scale"), bias=bias, softcap=c.attr("softcap", 0.0))
    return [merge_heads(c, out) if flat else out, *present]


def _mask(c: Context, q: Value, k: Value, past: int | Value) -> Value | None:
    e, bias = c.e, None
    hidden, shown = e.constant(np.array(_lowest(q), q.dtype)), e.constant(np.array(0, q.dtype))
    if c.has(3):
        mask = c.x(3)
        if mask.kind == TensorProto.BOOL:  # True takes part
            mask = e.where(mask, shown, hidden)
        # Keys that the mask is too short for are hidden.
        have, want = mask.dims[-1], k.dims[2]
        if isinstance(have, int) and isinstance(want, int) and 1 < have < want:
            mask = e.pad(mask, mask.rank - 1, 0, want - have, _lowest(q), length=want)
        bias = mask
    if c.attr("is_causal", 0):
        if c.has(6):
            c.fail("it is causal and its keys have lengths of their own")
        triangle = causal_bias(c, q, k, past)
        bias = triangle if bias is None else bias + triangle
    if c.has(6):
        cells = e.constant(np.arange(c.static(k, [2], "the number of keys")[0], dtype=np.int64).reshape(1, 1, 1, -1))
        padding = e.where(cells < e.unsqueeze(c.x(6), [1, 2, 3]), shown, hidden)
        bias = padding if bias is None else bias + padding
    return bias


def _repeat_heads(c: Context, value: Value, times: int) -> Value:
    """Grouped queries: each key head serves `times` query heads in a row."""
    e = c.e
    n, heads, length, width = value.dims
    if not isinstance(heads, int):
        c.fail("the number of heads must be known")
    tall = e("Expand", e.unsqueeze(value, [2]), e.ints([1, 1, times, 1, 1]))
    return e.reshape(tall, value, (n, heads * times, length, width))
