"""Sliding windows: convolution, transposed convolution and pooling, of one to three dimensions.

Shapes as in ONNX: x (N, C, *size), weight (M, C / group, *kernel). One image at a time, in
slabs of output rows, so that the unfolded windows stay small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import NodeProto

from ...graph.graph import attribute

__all__ = ["average_pool", "convolve", "convolve_transposed", "lp_pool", "max_pool"]

Array = NDArray[Any]

#: Numbers of one slab of unfolded windows.
_SLAB = 1 << 22


def convolve(node: NodeProto, x: Array, weight: Array, bias: Array | None) -> Array:
    """Conv."""
    count = x.ndim - 2
    group = attribute(node, "group", 1)
    kernel = weight.shape[2:]
    strides, dilations = _per_axis(node, "strides", count), _per_axis(node, "dilations", count)
    before, after = _pads(node, x.shape[2:], kernel, strides, dilations)
    x = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)]) if any((*before, *after)) else x
    outs = [(s - (k - 1) * d - 1) // t + 1
            for s, k, d, t in zip(x.shape[2:], kernel, dilations, strides, strict=True)]  # fmt: skip
    result = np.empty((len(x), len(weight), *outs), x.dtype)
    inner, outer = weight.shape[1], len(weight) // group
    if inner == 1 and outer == 1:
        result[:] = sum(
            _shifted(x, offset, strides, dilations, outs) * weight[(slice(None), 0, *offset)].reshape(-1, *[1] * count)
            for offset in itertools.product(*map(range, kernel))
        )
    else:
        matrices = weight.reshape(group, outer, -1)
        rows = max(1, _SLAB // max(1, x.shape[1] * math.prod(kernel) * math.prod(outs[1:])))
        for image, out in zip(x, result, strict=True):
            windows = _windows(image, kernel, strides, dilations)
            for start in range(0, outs[0], rows):
                part = windows[:, start : start + rows]
                # (C, *out, *kernel) -> (group, C / group * kernel, out)
                order = (0, *range(1 + count, 1 + 2 * count), *range(1, 1 + count))
                columns = part.transpose(order).reshape(group, inner * math.prod(kernel), -1)
                out[:, start : start + rows] = (matrices @ columns).reshape(len(weight), -1, *outs[1:])
    if bias is not None:
        result += bias.reshape(-1, *[1] * count)
    return result


def convolve_transposed(node: NodeProto, x: Array, weight: Array, bias: Array | None) -> Array:
    """ConvTranspose. weight: (C, M / group, *kernel)."""
    count = x.ndim - 2
    group = attribute(node, "group", 1)
    kernel, sizes = weight.shape[2:], x.shape[2:]
    strides, dilations = _per_axis(node, "strides", count), _per_axis(node, "dilations", count)
    extra = list(attribute(node, "output_padding", [0] * count))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = [t * (s - 1) + p + e for t, s, p, e in zip(strides, sizes, spans, extra, strict=True)]
    before, outs = _transposed_frame(node, sizes, full, strides)
    outer, inner = weight.shape[1], weight.shape[0] // group
    result = np.zeros((len(x), outer * group, *outs), x.dtype)
    # Room for windows that reach beyond what is kept.
    room = [max(f, b + o) for f, b, o in zip(full, before, outs, strict=True)]
    matrices = weight.reshape(group, inner, -1).transpose(0, 2, 1)
    for image, out in zip(x, result, strict=True):
        columns = (matrices @ image.reshape(group, inner, -1)).reshape(group * outer, *kernel, *sizes)
        wide = np.zeros((group * outer, *room), x.dtype)
        for offset in itertools.product(*map(range, kernel)):
            place = [slice(o * d, o * d + t * (s - 1) + 1, t)
                     for o, d, t, s in zip(offset, dilations, strides, sizes, strict=True)]  # fmt: skip
            wide[(slice(None), *place)] += columns[(slice(None), *offset)]
        out[:] = wide[(slice(None), *(slice(b, b + o) for b, o in zip(before, outs, strict=True)))]
    if bias is not None:
        result += bias.reshape(-1, *[1] * count)
    return result


def max_pool(node: NodeProto, x: Array) -> Array:
    """MaxPool without indices."""
    return _pool(node, x, lambda found, value: np.maximum(found, value), -np.inf)[0]


def average_pool(node: NodeProto, x: Array, opset: int) -> Array:
    """AveragePool, ceil mode and count_include_pad included."""
    total, cells = _pool(node, x, np.add, 0.0)
    if attribute(node, "count_include_pad", 0):
        # Cells of the written padding count, those that ceil mode adds behind it do not.
        cells = _pool(node, x, np.add, 0.0, count_padding=True)[1]
    return total / cells


def lp_pool(node: NodeProto, x: Array) -> Array:
    """LpPool."""
    p = attribute(node, "p", 2)
    return _pool(node, np.abs(x) ** p, np.add, 0.0)[0] ** (1.0 / p)


def _pool(
    node: NodeProto, x: Array, join: Callable[[Array, Array], Array], fill: float, count_padding: bool = False
) -> tuple[Array, Array]:
    """(joined windows (N, C, *out), number of cells of each window (*out))."""
    count = x.ndim - 2
    kernel = list(attribute(node, "kernel_shape"))
    strides, dilations = _per_axis(node, "strides", count), _per_axis(node, "dilations", count)
    sizes = x.shape[2:]
    before, after = _pads(node, sizes, kernel, strides, dilations)
    ceil = attribute(node, "ceil_mode", 0)
    outs, rest = [], []
    for size, k, t, d, b, a in zip(sizes, kernel, strides, dilations, before, after, strict=True):
        span = (k - 1) * d + 1
        space = size + b + a - span
        out = (-(-space // t) if ceil else space // t) + 1
        if ceil and (out - 1) * t >= size + b:
            out -= 1  # a window that would start in the padding behind the input is none
        outs.append(out)
        rest.append(max((out - 1) * t + span - size - b - a, 0))
    pads = [(b, a + r) for b, a, r in zip(before, after, rest, strict=True)]
    wide = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    inside = np.ones(sizes, x.dtype)
    if count_padding:
        inside = np.pad(inside, list(zip(before, after, strict=True)), constant_values=1)
        inside = np.pad(inside, [(0, r) for r in rest])
    else:
        inside = np.pad(inside, pads)
    result: Array | None = None
    cells = np.zeros(outs, x.dtype)
    for offset in itertools.product(*map(range, kernel)):
        value = _shifted(wide, offset, strides, dilations, outs)
        result = value.copy() if result is None else join(result, value)
        cells += _shifted(inside[None, None], offset, strides, dilations, outs)[0, 0]
    assert result is not None
    return result, cells


def _windows(image: Array, kernel: Any, strides: list[int], dilations: list[int]) -> Array:
    """View (C, *out, *kernel) of (C, *size)."""
    count = len(strides)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    view = sliding_window_view(image, spans, tuple(range(1, 1 + count)))
    return view[(slice(None), *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))]


def _shifted(x: Array, offset: Any, strides: list[int], dilations: list[int], outs: list[int]) -> Array:
    """The cell at `offset` of every window: (N, C, *out)."""
    place = [slice(o * d, o * d + t * (n - 1) + 1, t)
             for o, d, t, n in zip(offset, dilations, strides, outs, strict=True)]  # fmt: skip
    return x[(slice(None), slice(None), *place)]


def _per_axis(node: NodeProto, name: str, count: int) -> list[int]:
    return [int(v) for v in attribute(node, name, None) or [1] * count]


def _pads(node: NodeProto, sizes: Any, kernel: Any, strides: list[int], dilations: list[int]) -> tuple[list[int], ...]:
    """(before, after) per axis, with ``auto_pad`` written out."""
    count = len(strides)
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * count, [0] * count
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-size // t) - 1) * t + (k - 1) * d + 1 - size, 0)
                  for size, k, t, d in zip(sizes, kernel, strides, dilations, strict=True)]  # fmt: skip
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (small, large) if mode == "SAME_UPPER" else (large, small)
    pads = [int(v) for v in attribute(node, "pads", None) or [0] * (2 * count)]
    return pads[:count], pads[count:]


def _transposed_frame(node: NodeProto, sizes: Any, full: list[int], strides: list[int]) -> tuple[list[int], list[int]]:
    """(cells cut off in front, output sizes) of a transposed convolution."""
    count = len(full)
    mode = attribute(node, "auto_pad", "NOTSET")
    shape = attribute(node, "output_shape", None)
    if shape is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        shape = [s * t for s, t in zip(sizes, strides, strict=True)]
    if shape is not None:
        outs = [int(v) for v in list(shape)[-count:]]
        totals = [max(f - o, 0) for f, o in zip(full, outs, strict=True)]
        # The operator's text: SAME_UPPER keeps the smaller half in front, everything else the larger.
        before = [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals]
        return before, outs
    pads = [int(v) for v in attribute(node, "pads", None) or [0] * (2 * count)]
    return pads[:count], [f - b - a for f, b, a in zip(full, pads[:count], pads[count:], strict=True)]
