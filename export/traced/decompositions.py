"""What the backward pass is made of: PyTorch's own decompositions, and those it lacks.

PyTorch decomposes the backward of most pointwise and normalising operators. Convolutions
and poolings it leaves whole, and no exporter knows those operators; the table adds them,
in operators that engines accept: no indices, no scatter, no reduction into a scatter
(TensorRT refuses all three).

Every function here takes the arguments of the ATen operator it replaces and returns its
gradients with respect to the inputs; gradients of weights are never asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._decomp import get_decompositions

__all__ = ["decomposition_table", "restore_names"]

aten = torch.ops.aten

_PYTORCHS_OWN = [
    aten.threshold_backward,
    aten.hardtanh_backward,
    aten.hardswish_backward,
    aten.hardsigmoid_backward,
    aten.sigmoid_backward,
    aten.tanh_backward,
    aten.silu_backward,
    aten.gelu_backward,
    aten.elu_backward,
    aten.leaky_relu_backward,
    aten.softplus_backward,
    aten.mish_backward,
    aten.logit_backward,
    aten._softmax_backward_data,
    aten._log_softmax_backward_data,
    aten.native_batch_norm_backward,
    aten.native_layer_norm_backward,
    aten.native_group_norm_backward,
    aten.select_backward,
    aten.slice_backward,
]


def decomposition_table() -> dict[Any, Callable[..., Any]]:
    """Operator -> decomposition, for `make_fx`."""
    return {
        **get_decompositions(_PYTORCHS_OWN),
        aten.constant_pad_nd.default: _constant_pad,
        aten.convolution_backward.default: _convolution_backward,
        aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
        aten.avg_pool2d_backward.default: _avg_pool_backward,
        aten._adaptive_avg_pool2d_backward.default: _adaptive_avg_pool_backward,
    }


@torch.library.custom_op("cfcam::constant_pad", mutates_args=())
def constant_pad(source: Tensor, pad: list[int], value: float) -> Tensor:
    """`aten.constant_pad_nd` under another name, for use inside a trace.

    PyTorch 2.13 traces the original with a kernel that reads a symbolic batch size as a
    number and so freezes it. The name is changed back when the trace is complete.
    """
    return F.pad(source, pad, value=value)


@constant_pad.register_fake
def _(source: Tensor, pad: list[int], value: float) -> Tensor:
    sizes = list(source.shape)
    for axis in range(len(pad) // 2):  # pairs (before, after), counted from the last axis
        sizes[-1 - axis] = sizes[-1 - axis] + pad[2 * axis] + pad[2 * axis + 1]
    return source.new_empty(sizes)


def _constant_pad(source: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    return torch.ops.cfcam.constant_pad(source, list(pad), float(value))


def restore_names(graph: fx.GraphModule) -> None:
    """Undo the renaming of `constant_pad` in a finished trace."""
    for node in graph.graph.nodes:
        if node.target is torch.ops.cfcam.constant_pad.default:
            source, pad, value = node.args
            node.target = aten.pad.default
            node.args = (source, pad, "constant", value)


def _convolution_backward(
    gradient: Tensor,
    source: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """The adjoint of a convolution is the transposed one with the same weight, and back."""
    assert not mask[1], "gradients of weights are not part of an explanation"
    assert not mask[2], "gradients of biases are not part of an explanation"
    if not mask[0]:
        return None, None, None
    if transposed:
        return (
            aten.convolution(gradient, weight, None, stride, padding, dilation, False, [0] * len(stride), groups),
            None,
            None,
        )
    # Rows and columns that the last stride did not reach get no gradient, but have a place.
    missing = []
    for axis, step in enumerate(stride):
        kernel = (weight.shape[2 + axis] - 1) * dilation[axis] + 1
        reached = (gradient.shape[2 + axis] - 1) * step - 2 * padding[axis] + kernel
        missing.append(source.shape[2 + axis] - reached)
    return aten.convolution(gradient, weight, None, stride, padding, dilation, True, missing, groups), None, None


def _pair(values: Sequence[int], default: Sequence[int]) -> tuple[int, int]:
    """Pooling arguments may be empty (the default), one number for both axes, or two."""
    chosen = list(values) if len(values) else list(default)
    return (chosen[0], chosen[-1])


def _overlap_add(
    patches: Tensor,
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    kernel: tuple[int, int],
) -> Tensor:
    """Add (N, C, kh * kw, Ho, Wo) back to where the windows were cut from: (N, C, H, W).

    One transposed convolution with a constant kernel that sends patch i to offset i.
    """
    batch, channels, count, rows, columns = patches.shape
    place = torch.eye(count, dtype=patches.dtype, device=patches.device).reshape(count, 1, *kernel)
    flat = patches.reshape(batch * channels, count, rows, columns)
    # The windows may leave the last rows uncovered (they get zero), or reach beyond them
    # (ceil_mode: what they hold there is padding, and is cut off).
    covered = [
        (grid - 1) * stride[a] - 2 * padding[a] + dilation[a] * (kernel[a] - 1) + 1
        for a, grid in enumerate((rows, columns))
    ]
    missing = [max(0, size[a] - covered[a]) for a in (0, 1)]
    whole = aten.convolution(flat, place, None, stride, padding, dilation, True, missing, 1)
    if covered[0] > size[0] or covered[1] > size[1]:
        whole = whole[:, :, : size[0], : size[1]]
    return whole.reshape(batch, channels, *size)


def _max_pool_backward(
    gradient: Tensor,
    source: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Each window's gradient goes to its maximum; among ties to the first in reading order.

    That is PyTorch's rule, and it matters: after a ReLU whole windows are zero. For every
    offset in the window the strided slice of the source is compared with the pooled value,
    and the hits are added back. The pooled value is written as the forward operator once
    more, so that the lean pass finds the two to be one.
    """
    kh, kw = _pair(kernel, kernel)
    sh, sw = _pair(stride, kernel)
    ph, pw = _pair(padding, (0,))
    dh, dw = _pair(dilation, (1,))
    rows, columns = gradient.shape[2], gradient.shape[3]
    height, width = source.shape[2], source.shape[3]
    # With ceil_mode the last window may reach beyond the padding.
    below = max(0, (rows - 1) * sh + (kh - 1) * dh + 1 - height - ph)
    right = max(0, (columns - 1) * sw + (kw - 1) * dw + 1 - width - pw)
    padded = source
    if ph or pw or below or right:
        padded = aten.constant_pad_nd(source, [pw, right, ph, below], -math.inf)
    best = aten.max_pool2d_with_indices(source, kernel, stride, padding, dilation, ceil_mode)[0]
    taken = None
    parts = []
    for top, left in itertools.product(range(0, kh * dh, dh), range(0, kw * dw, dw)):
        values = padded[:, :, top : top + (rows - 1) * sh + 1 : sh, left : left + (columns - 1) * sw + 1 : sw]
        equal = values == best
        hit = equal if taken is None else equal & ~taken
        taken = equal if taken is None else taken | equal
        parts.append(torch.where(hit, gradient, 0.0))
    return _overlap_add(torch.stack(parts, 2), (height, width), (sh, sw), (ph, pw), (dh, dw), (kh, kw))


def _avg_pool_backward(
    gradient: Tensor,
    source: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Each window's gradient is shared equally by the cells that its mean was taken over."""
    size_kernel = _pair(kernel, kernel)
    size_stride = _pair(stride, kernel)
    size_padding = _pair(padding, (0,))
    size = (int(source.shape[2]), int(source.shape[3]))
    grid = (int(gradient.shape[2]), int(gradient.shape[3]))
    counts = [
        _window_sizes(size[a], grid[a], size_kernel[a], size_stride[a], size_padding[a], count_include_pad)
        for a in (0, 1)
    ]
    if divisor_override:
        gradient = gradient / divisor_override
    elif len(set(counts[0])) == 1 and len(set(counts[1])) == 1:
        gradient = gradient / (counts[0][0] * counts[1][0])
    else:
        inverse = [
            torch.tensor([1.0 / c for c in axis], dtype=gradient.dtype, device=gradient.device) for axis in counts
        ]
        gradient = gradient * (inverse[0][:, None] * inverse[1][None, :])
    count = size_kernel[0] * size_kernel[1]
    batch, channels = gradient.shape[:2]
    patches = gradient[:, :, None].expand(batch, channels, count, *grid)
    return _overlap_add(patches, size, size_stride, size_padding, (1, 1), size_kernel)


def _window_sizes(size: int, windows: int, kernel: int, stride: int, padding: int, include: bool) -> list[int]:
    """How many cells each window's mean divides by, along one axis (PyTorch's definition)."""
    found = []
    for index in range(windows):
        start = index * stride - padding
        end = min(start + kernel, size + padding)
        found.append(end - start if include else min(end, size) - max(start, 0))
    return found


def _adaptive_avg_pool_backward(gradient: Tensor, source: Tensor) -> Tensor:
    """Pooling to a fixed grid is a product with one small matrix per axis; so is its adjoint."""
    for axis in (2, 3):
        size, cells = int(source.shape[axis]), int(gradient.shape[axis])
        if size == cells:  # pooling to the size it has: nothing happened
            continue
        rows = []
        for cell in range(cells):
            start, end = (cell * size) // cells, -((-(cell + 1) * size) // cells)
            rows.append([1.0 / (end - start) if start <= i < end else 0.0 for i in range(size)])
        matrix = torch.tensor(rows, dtype=gradient.dtype, device=gradient.device)
        last = gradient.transpose(axis, 3)
        sizes = last.shape[:3]
        # A plain product of matrices: the broadcasting one reads the batch size as a number.
        product = torch.mm(last.reshape(sizes[0] * sizes[1] * sizes[2], cells), matrix)
        gradient = product.reshape(*sizes, size).transpose(axis, 3)
    return gradient
