"""Scaled-dot-product attention, written out as products and a softmax.

PyTorch runs `scaled_dot_product_attention` by one of several kernels (flash for the CPU,
efficient, math), each with a backward operator of its own that no exporter knows, and which
one is a matter of the machine. Written out before it is differentiated there is one form:
the probabilities are made once and read by both directions, and the adjoint consists of
products and the softmax's own adjoint, which every engine has.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from ..errors import UnsupportedOperatorError

__all__ = ["for_converter", "scaled_dot_product_attention"]

aten = torch.ops.aten

_ATTENTION = aten.scaled_dot_product_attention.default


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`aten.scaled_dot_product_attention`: softmax(q k^T * scale + mask) v.

    query (..., L, E), key (..., S, E), value (..., S, V) give (..., L, V). The root of the scale
    goes to either factor, as in PyTorch's own export, so that rounding is the same in both
    files. A row whose mask is False everywhere gives zero. Raises `UnsupportedOperatorError`
    when it drops out at random.
    """
    _refuse_dropout(dropout_p)
    if enable_gqa:  # each key head serves a run of query heads
        times = query.shape[-3] // key.shape[-3]
        key, value = (_repeated(heads, times) for heads in (key, value))
    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = torch.matmul(_times(query, root), _times(key.transpose(-2, -1), root))
    if is_causal:
        sizes = (query.shape[-2], key.shape[-2])
        attn_mask = torch.ones(sizes, dtype=torch.bool, device=query.device).tril()
    if attn_mask is None:
        probabilities = torch.softmax(scores, -1)
    elif attn_mask.dtype == torch.bool:
        # The lowest number stands for minus infinity, of which a softmax makes NaN; the converter holds it in float32.
        lowest = torch.finfo(torch.float32 if scores.dtype is torch.float64 else scores.dtype).min
        hidden = torch.where(attn_mask, scores, lowest)
        probabilities = torch.where(attn_mask, torch.softmax(hidden, -1), 0.0)
    else:
        probabilities = torch.softmax(scores + attn_mask, -1)
    return torch.matmul(probabilities, value)


def _refuse_dropout(probability: Any) -> None:
    if probability:
        raise UnsupportedOperatorError(
            f"an attention drops out probabilities at random (p = {probability}) although the model is in eval mode: "
            "pass dropout_p=0 when the module is not training"
        )


def for_converter(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """`program` as PyTorch's ONNX converter takes it, with the same values.

    Attention with a mask or with more axes than four is written out here: the converter's own way
    leaves strides that the views behind it do not fit, or fails. Views become reshapes, for the
    same reason. An adaptive maximum becomes a max pooling, whose gradient goes to the first of equal cells, as
    PyTorch's does: the converter's own form shares it among them, and behind a ReLU whole grids are zero.
    """
    for node in program.graph.nodes:
        if node.target is aten.adaptive_max_pool2d.default:
            _as_max_pool(node)
    calls = [node for node in program.graph.nodes if node.target is _ATTENTION]
    for call in calls:
        _refuse_dropout(call.args[4] if len(call.args) > 4 else call.kwargs.get("dropout_p", 0.0))
    if not any(map(_beyond_converter, calls)):
        return program
    for node in program.graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default
    program.graph_module.recompile()
    return program.run_decompositions({_ATTENTION: scaled_dot_product_attention})


def _as_max_pool(call: fx.Node) -> None:
    source, cells = call.args
    grid = source.meta["val"].shape[-2:]  # type: ignore[union-attr]
    if all(size % count == 0 for size, count in zip(grid, cells, strict=True)):  # type: ignore[arg-type]
        kernel = [size // count for size, count in zip(grid, cells, strict=True)]  # type: ignore[arg-type]
        call.target, call.args = aten.max_pool2d_with_indices.default, (source, kernel, kernel)


def _beyond_converter(call: fx.Node) -> bool:
    query, _, _, *options = call.args
    masked = bool(options and options[0] is not None) or call.kwargs.get("attn_mask") is not None
    return masked or query.meta["val"].dim() != 4  # type: ignore[union-attr]


def _times(value: Tensor, number: float) -> Tensor:
    """The converter rounds numbers to float32: in float64 what is lost by that is added."""
    if value.dtype is not torch.float64:
        return value * number
    rounded = float(torch.tensor(number, dtype=torch.float32))
    return value * rounded + value * (number - rounded)


def _repeated(heads: Tensor, times: int) -> Tensor:
    """(..., H, S, E) -> (..., H * times, S, E), each head `times` times in a row."""
    *others, count, length, width = heads.shape
    apart = heads.unsqueeze(-3).expand(*others, count, times, length, width)
    return apart.reshape(*others, count * times, length, width)
