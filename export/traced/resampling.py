"""Resizing (`interpolate`), padding with what is there (reflect, replicate, circular), and their adjoints.

Every function takes the arguments of the ATen operator that it replaces. The adjoints are
one small matrix per axis (`along_axis`), but for enlarging by a whole factor, whose
adjoint is a sum over tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .along_axis import adjoint_along, axis_matrix

__all__ = [
    "RESIZES",
    "circular_pad",
    "nearest_backward",
    "pad_backward",
    "resize",
    "resize_backward",
    "restore_resize",
]

aten = torch.ops.aten

#: Every resize in the two forms of its arguments.
RESIZES = (
    aten.upsample_nearest2d,
    aten._upsample_nearest_exact2d,
    aten.upsample_bilinear2d,
    aten._upsample_bilinear2d_aa,
    aten.upsample_bicubic2d,
    aten._upsample_bicubic2d_aa,
)
_VEC = {operator.default: operator.vec for operator in RESIZES}


def resize(operator: Any) -> Callable[..., Tensor]:
    """`operator` with sizes in place of ``operator.vec``, which reads a symbolic batch size as a number.

    What comes back takes ``(source, sizes or None, *options, factors or None)``.
    """

    def forward(source: Tensor, sizes: Sequence[int] | None, *others: Any) -> Tensor:
        *options, factors = others
        if sizes is None:
            sizes = [int(source.shape[2 + axis] * factor) for axis, factor in enumerate(factors)]
        return operator.default(source, list(sizes), *options, *(factors or (None, None)))

    return forward


def restore_resize(node: fx.Node) -> None:
    """Make a traced resize ``operator.vec`` again, of which the converter makes one Resize."""
    operator: Any = node.target
    if operator not in _VEC:
        return
    missing = len(operator._schema.arguments) - len(node.args)  # trailing None
    source, sizes, *options, height, width = (*node.args, *[None] * missing)
    factors = None if height is None else [height, width]
    node.target = _VEC[operator]
    node.args = (source, sizes if factors is None else None, *options, factors)


def circular_pad(source: Tensor, padding: Sequence[int]) -> Tensor:
    """Padding with the other end, pairs (before, after) from the last axis; PyTorch writes it in place."""
    for pair in range(len(padding) // 2):
        axis = source.dim() - 1 - pair
        before, after = int(padding[2 * pair]), int(padding[2 * pair + 1])
        size = int(source.shape[axis])
        source = source.narrow(axis, max(0, -before), size + min(0, before) + min(0, after))
        parts = [source]
        if before > 0:
            parts.insert(0, source.narrow(axis, source.shape[axis] - before, before))
        if after > 0:
            parts.append(source.narrow(axis, 0, after))
        source = torch.cat(parts, axis) if len(parts) > 1 else source
    return source


def nearest_backward(operator: Any) -> Callable[..., Tensor]:
    """For the forward `operator`, `upsample_nearest2d` or the exact one."""

    def backward(
        gradient: Tensor,
        output_size: Sequence[int],
        input_size: Sequence[int],
        scale_height: float | None = None,
        scale_width: float | None = None,
    ) -> Tensor:
        factors = [
            _whole_factor(int(input_size[2 + a]), int(output_size[a]), (scale_height, scale_width)[a]) for a in (0, 1)
        ]
        if factors[0] and factors[1]:
            return aten.avg_pool2d(gradient, factors, factors) * (factors[0] * factors[1])
        return _backward(operator, gradient, output_size, input_size, (), (scale_height, scale_width))

    return backward


def resize_backward(operator: Any) -> Callable[..., Tensor]:
    """For the forward `operator`: bilinear or bicubic, with or without anti-aliasing."""

    def backward(
        gradient: Tensor,
        output_size: Sequence[int],
        input_size: Sequence[int],
        align_corners: bool,
        scale_height: float | None = None,
        scale_width: float | None = None,
    ) -> Tensor:
        return _backward(operator, gradient, output_size, input_size, (align_corners,), (scale_height, scale_width))

    return backward


def _backward(
    operator: Any,
    gradient: Tensor,
    output_size: Sequence[int],
    input_size: Sequence[int],
    options: tuple[Any, ...],
    scales: tuple[float | None, float | None],
) -> Tensor:
    for axis, scale in zip((2, 3), scales, strict=True):
        before, after = int(input_size[axis]), int(output_size[axis - 2])
        if before == after and scale in (None, 1.0):
            continue

        def resize(unit: Tensor, after: int = after, scale: float | None = scale) -> Tensor:
            # One unit vector per row of an image: PyTorch's anti-aliased kernel errs at a width of 1.
            return operator(unit[None, None], [len(unit), after], *options, None, scale)[0, 0]

        gradient = adjoint_along(axis, gradient, axis_matrix(before, gradient.dtype, resize))
    return gradient


def _whole_factor(before: int, after: int, scale: float | None) -> int:
    """The factor by which an axis was enlarged, 0 when it is no whole number."""
    factor = after // before
    return factor if factor * before == after and scale in (None, float(factor)) else 0


def pad_backward(mode: str) -> Callable[[Tensor, Tensor, Sequence[int]], Tensor]:
    """For ``reflection_pad1d`` to ``3d`` (`mode` "reflect") and ``replication_pad`` ("replicate").

    padding: pairs (before, after), counted from the last axis.
    """

    def backward(gradient: Tensor, source: Tensor, padding: Sequence[int]) -> Tensor:
        for pair in range(len(padding) // 2):
            axis = source.dim() - 1 - pair
            sides = [int(padding[2 * pair]), int(padding[2 * pair + 1])]
            if not any(sides):
                continue

            def pad(unit: Tensor, sides: list[int] = sides) -> Tensor:
                return F.pad(unit[None], sides, mode=mode)[0]

            gradient = adjoint_along(axis, gradient, axis_matrix(int(source.shape[axis]), gradient.dtype, pad))
        return gradient

    return backward
