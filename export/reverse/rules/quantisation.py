"""QuantizeLinear and DequantizeLinear pairs: straight through inside the range, zero outside.

The gradient of a quantised tensor is kept in the units of the real values, so between the
two operators nothing is scaled, and a pooling or reshaping of integers needs nothing special.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..registry import Context, Gradients, rule

__all__: list[str] = []

_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255), TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535), TensorProto.INT4: (-8, 7), TensorProto.UINT4: (0, 15),
    TensorProto.FLOAT8E4M3FN: (-448, 448), TensorProto.FLOAT8E4M3FNUZ: (-240, 240),
    TensorProto.FLOAT8E5M2: (-57344, 57344), TensorProto.FLOAT8E5M2FNUZ: (-57344, 57344),
}  # fmt: skip


@rule("QuantizeLinear")
def quantize(c: Context) -> Gradients:
    """Passes where x / scale + zero point rounds into the type's range, as PyTorch's fake quantisation."""
    if 1 in c.wanted:
        c.fail("its scale depends on the layer")
    e, x, scale = c.e, c.x(), c.x(1)
    kind = c.graph.elem_type(c.node.output[0]) or TensorProto.UINT8
    if kind not in _RANGES:
        c.fail("its integer type is unknown")
    low, high = _RANGES[kind]
    integer = kind not in (
        TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ
    )  # fmt: skip
    # Rounding to nearest still reaches the range from half a step outside.
    slack = 0.5 if integer else 0.0
    steps = c.constant(1)
    zero = c.constant(2) if c.has(2) else np.zeros((), np.int64)
    if steps is None or zero is None:
        c.fail("its scale or zero point is computed at run time")
    if c.attr("block_size", 0):
        c.fail("it is quantised in blocks")
    steps, offset = steps.astype(np.float64), zero.astype(np.float64)
    bounds = [(limit - offset) * steps for limit in (low - slack, high + slack)]
    if scale.rank and steps.size > 1:
        axis = c.axis(c.attr("axis", 1), x.rank)
        bounds = [np.broadcast_to(b, steps.shape).reshape([-1 if a == axis else 1 for a in range(x.rank)])
                  for b in bounds]  # fmt: skip
    else:
        bounds = [b.reshape(()) for b in bounds]
    lower, upper = (e.constant(b.astype(x.dtype)) for b in bounds)
    return {0: e.masked((x > lower) & (x < upper), c.g)}


@rule("DequantizeLinear")
def dequantize(c: Context) -> Gradients:
    if 1 in c.wanted:
        c.fail("its scale depends on the layer")
    return {0: c.g}
