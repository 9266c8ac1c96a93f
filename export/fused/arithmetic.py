"""Small pieces of arithmetic that the nodes of a method are made of; masks are float32 values 0 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..reverse.emitter import Emitter, Value

__all__ = [
    "FLOAT",
    "INT",
    "TINY",
    "as_index",
    "both_axes",
    "gather_rows",
    "maximum",
    "minimum",
    "number",
    "places",
    "ratio",
    "total",
]

FLOAT, INT = int(TensorProto.FLOAT), int(TensorProto.INT64)
TINY = float(np.finfo(np.float32).tiny)

Array = NDArray[np.float32]


def number(e: Emitter, condition: Value) -> Value:
    """A condition as 0 and 1: products with masks are right everywhere, Where on a broadcast condition is not."""
    return e.cast(condition, FLOAT)


def maximum(e: Emitter, left: Value, right: Value | float) -> Value:
    return e("Max", left, e.as_value(right, left.kind))


def minimum(e: Emitter, left: Value, right: Value | float) -> Value:
    return e("Min", left, e.as_value(right, left.kind))


def total(e: Emitter, value: Value, axes: list[int], *, keepdims: bool = False) -> Value:
    return e.reduce("ReduceSum", value, axes, keepdims=keepdims)


def ratio(e: Emitter, value: Value, size: Value) -> Value:
    """value / size, where size is not negative; 0 / 0 is 0."""
    return value / maximum(e, size, TINY)


def as_index(e: Emitter, value: Value, count: int | Value) -> Value:
    """Numbers float32 as int64 from 0 to count - 1, whatever they are: an index out of range would stop the batch.

    count: an int64 scalar where the data say it.
    """
    last = count - 1
    index = e.cast(minimum(e, maximum(e, value, 0.0), e.cast(last, FLOAT) if isinstance(last, Value) else last), INT)
    # What a cast makes of NaN is anybody's choice.
    return minimum(e, maximum(e, index, 0), last)


def places(e: Emitter, count: int | Value) -> Value:
    """float32 (1, count): 0 to count - 1. count: an int64 scalar where the data say it."""
    if isinstance(count, int):
        return e.constant(np.arange(count, dtype=np.float32)[None])
    zero, one = (e.constant(np.array(i, np.int64)) for i in (0, 1))
    return e.unsqueeze(e.cast(e("Range", zero, count, one), FLOAT), [0])


def gather_rows(e: Emitter, table: Value, rows: Value) -> Value:
    """(N, K, D): those of `table` (N, C, D) at `rows` int64 (N, K)."""
    shape = (table.dims[0], rows.dims[1], *table.dims[2:])
    return e("GatherND", table, e.unsqueeze(rows, [2]), batch_dims=1, shape=shape)


def both_axes(e: Emitter, maps: Value, rows: Array, columns: Array) -> Value:
    """rows @ map @ columns.T of each map (N, ..., h, w)."""
    across = e("MatMul", maps, e.constant(np.ascontiguousarray(columns.T)))
    return e("MatMul", e.constant(rows), across)
