"""What the backward pass is made of: PyTorch's own decompositions, and those it lacks.

PyTorch decomposes the backward of most pointwise and normalising operators. Convolutions
and poolings it leaves whole, and no exporter knows those operators; the table adds them,
in operators that engines accept: no indices, no scatter, no reduction into a scatter
(TensorRT refuses all three).

Every function here takes the arguments of the ATen operator it replaces and returns its
gradients with respect to the inputs; gradients of weights are never asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._decomp import get_decompositions

from .gathering import index_add, index_put
from .pooling import (
    adaptive_avg_pool_backward,
    adaptive_max_pool_backward,
    avg_pool3d_backward,
    avg_pool_backward,
    max_pool_backward,
)
from .resampling import nearest_backward, pad_backward, resize_backward, restore_resize
from .slicing import select_backward, slice_backward

__all__ = ["decomposition_table", "restore_names"]

aten = torch.ops.aten

_PYTORCHS_OWN = [
    aten.threshold_backward,
    aten.hardtanh_backward,
    aten.hardsigmoid_backward,
    aten.sigmoid_backward,
    aten.tanh_backward,
    aten.silu_backward,
    aten.gelu_backward,
    aten.elu_backward,
    aten.glu_backward,
    aten.leaky_relu_backward,
    aten.softplus_backward,
    aten.mish_backward,
    aten.logit_backward,
    aten.log_sigmoid_backward,
    aten._prelu_kernel_backward,
    aten._softmax_backward_data,
    aten._log_softmax_backward_data,
    aten.native_batch_norm_backward,
    aten.native_layer_norm_backward,
    aten.native_group_norm_backward,
]


def decomposition_table() -> dict[Any, Callable[..., Any]]:
    """Operator -> decomposition, for `make_fx`."""
    return {
        **get_decompositions(_PYTORCHS_OWN),
        aten.constant_pad_nd.default: _constant_pad,
        aten.hardswish_backward.default: _hardswish_backward,
        aten.convolution_backward.default: _convolution_backward,
        aten.slice_backward.default: slice_backward,
        aten.select_backward.default: select_backward,
        aten.index_add.default: index_add,
        aten.index_put.default: index_put,
        aten.max_pool2d_with_indices_backward.default: max_pool_backward,
        aten.avg_pool2d_backward.default: avg_pool_backward,
        aten.avg_pool3d_backward.default: avg_pool3d_backward,
        aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool_backward,
        aten.adaptive_max_pool2d_backward.default: adaptive_max_pool_backward,
        aten.upsample_nearest2d_backward.default: nearest_backward(aten.upsample_nearest2d),
        aten._upsample_nearest_exact2d_backward.default: nearest_backward(aten._upsample_nearest_exact2d),
        aten.upsample_bilinear2d_backward.default: resize_backward(aten.upsample_bilinear2d),
        aten._upsample_bilinear2d_aa_backward.default: resize_backward(aten._upsample_bilinear2d_aa),
        aten.upsample_bicubic2d_backward.default: resize_backward(aten.upsample_bicubic2d),
        aten._upsample_bicubic2d_aa_backward.default: resize_backward(aten._upsample_bicubic2d_aa),
        aten.reflection_pad1d_backward.default: pad_backward("reflect"),
        aten.reflection_pad2d_backward.default: pad_backward("reflect"),
        aten.replication_pad1d_backward.default: pad_backward("replicate"),
        aten.replication_pad2d_backward.default: pad_backward("replicate"),
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
    """Undo the renaming of `constant_pad` and of resizes in a finished trace."""
    for node in graph.graph.nodes:
        restore_resize(node)
        if node.target is torch.ops.cfcam.constant_pad.default:
            source, pad, value = node.args
            node.target = aten.pad.default
            node.args = (source, pad, "constant", value)


def _hardswish_backward(gradient: Tensor, source: Tensor) -> Tensor:
    """Of x h(x), with h the hard sigmoid: h + x / 6 between -3 and 3, where x / 6 is h - 1/2, and h outside.

    PyTorch's own makes a choice of three, which engines run slowly; h they have already.
    """
    gate = aten.hardsigmoid(source)
    return gradient * (gate + torch.where((source > -3) & (source < 3), gate - 0.5, 0.0))


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
