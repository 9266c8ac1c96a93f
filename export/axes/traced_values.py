"""What the axes of every traced value mean: batch, rows, columns, channels.

The image is (N, C, H, W); from there on each operator says what it does to the axes, in the
terms of `places`.

Where an operator is not known the axes are "unknown" rather than guessed. A later
operator that fixes the meaning (a residual sum, a 2-D convolution) finds it again.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from .algebra import (
    Axes,
    Root,
    blank,
    broadcast,
    count,
    forget,
    fresh,
    image_axes,
    joined,
    layout_of,
    planar,
    regroup,
    resized,
    sliced,
    without,
)
from .layout import Layout

__all__ = ["AxisMap", "map_axes"]

aten = torch.ops.aten


class AxisMap:
    """The axes of every value of one graph."""

    def __init__(self, axes: dict[fx.Node, Any]) -> None:
        self._axes = axes

    def layout(self, node: fx.Node) -> Layout | None:
        """How `node` holds its grid; None when it has none that is known."""
        axes = self._axes.get(node)
        return layout_of(axes) if isinstance(axes, tuple) else None


def map_axes(graph: fx.Graph) -> AxisMap:
    """Follow the axes of the image, the first placeholder, through `graph`."""
    axes: dict[fx.Node, Any] = {}
    image = next(node for node in graph.nodes if node.op == "placeholder")
    batch = Root("N", _sizes(image.meta["val"])[0])
    follow = _Follow(axes, batch)
    for node in graph.nodes:
        if node is image and len(node.meta["val"].shape) == 4:
            axes[node] = image_axes(batch, _sizes(image.meta["val"]))
        elif node.op != "output":
            axes[node] = follow(node)
    return AxisMap(axes)


def _sizes(value: torch.Tensor) -> list[int]:
    """Sizes as numbers; the symbolic batch as the size that it had in the example."""
    return [size if isinstance(size, int) else int(size.node.hint) for size in value.shape]


_SAME_SHAPE_BUT_MOVED = {
    aten.roll.default,
    aten.flip.default,
    aten.index.Tensor,
    aten.gather.default,
    aten.index_select.default,
    aten.sort.default,
    aten.rot90.default,
}
_RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
}
_TRANSPOSES = {
    aten.transpose.int,
    aten.permute.default,
    aten.t.default,
    aten.movedim.int,
    aten.movedim.intlist,
    aten.swapaxes.default,
    aten.swapdims.default,
    aten.numpy_T.default,
    aten.mT.default,
}
_PRODUCTS = {aten.matmul.default, aten.bmm.default, aten.mm.default, aten.baddbmm.default}
_REDUCTIONS = {
    aten.mean.dim,
    aten.sum.dim_IntList,
    aten.amax.default,
    aten.amin.default,
    aten.max.dim,
    aten.min.dim,
    aten.median.dim,
    aten.logsumexp.default,
}
_SLICES = {aten.slice.Tensor, aten.narrow.default, aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default}
# Operators whose input is (N, C, H, W) by definition, and whose result has a grid of its own.
_PLANAR = {
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.convolution.default,
    aten.conv_transpose2d.input,
    aten.max_pool2d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
    aten.upsample_nearest2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_bilinear2d.default,
    aten.upsample_bilinear2d.vec,
    aten._upsample_bilinear2d_aa.vec,
    aten.upsample_bicubic2d.vec,
    aten._native_batch_norm_legit_no_training.default,
    aten.batch_norm.default,
    aten.group_norm.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
}
_RESIZING = {aten.pad.default, aten.constant_pad_nd.default}


class _Follow:
    """One operator's axes from those of its inputs."""

    def __init__(self, axes: dict[fx.Node, Any], batch: Root) -> None:
        self._axes, self._batch = axes, batch

    def __call__(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if isinstance(value, list | tuple):
            return [self._tensor(node, item, index) for index, item in enumerate(value)]
        if node.target is operator.getitem:
            found = self._axes.get(node.args[0])  # type: ignore[arg-type]
            index: Any = node.args[1]
            return found[index] if isinstance(found, list) else self._unknown(value)
        return self._tensor(node, value, 0)

    def _unknown(self, value: Any) -> Axes | None:
        if not isinstance(value, torch.Tensor):
            return None
        return tuple(blank(self._batch, size) for size in _sizes(value))

    def _tensor(self, node: fx.Node, value: Any, index: int) -> Axes | None:
        if not isinstance(value, torch.Tensor):
            return None
        sizes = _sizes(value)
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        before = self._axes.get(source) if source is not None else None
        if node.op != "call_function" or (source is None and node.target is not aten.cat.default):
            return self._same_shape(node, sizes)
        if node.target is aten.cat.default:
            return self._cat(node, sizes)
        if not isinstance(before, tuple):
            return self._same_shape(node, sizes)
        found = self._known(node, sizes, before, index)
        if found is None:
            found = self._same_shape(node, sizes)
        if len(found) != len(sizes) or any(count(a) != s for a, s in zip(found, sizes, strict=True)):
            return self._unknown(value)
        return found

    def _known(self, node: fx.Node, sizes: list[int], before: Axes, index: int) -> Axes | None:
        target, args, rank = node.target, node.args, len(before)
        if target in _RESHAPES:
            return regroup(before, sizes)
        if target in _TRANSPOSES:
            order = _order(node, rank)
            return tuple(before[i] for i in order)
        if target is aten.expand.default:
            padded = ((),) * (len(sizes) - rank) + before
            return tuple(a if count(a) == s else blank(self._batch, s) for a, s in zip(padded, sizes, strict=True))
        if target in _REDUCTIONS:
            dims = args[1] if len(args) > 1 else None
            dims = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(rank))  # type: ignore[call-overload]
            return without(before, [d % rank for d in dims], keep=len(sizes) == rank)
        if target is aten.select.int:
            axis = int(args[1]) % rank  # type: ignore[arg-type]
            return tuple(forget(a, before[axis]) for i, a in enumerate(before) if i != axis)
        if target is aten.unbind.int:
            axis = int(args[1]) % rank if len(args) > 1 else 0  # type: ignore[arg-type]
            return tuple(forget(a, before[axis]) for i, a in enumerate(before) if i != axis)
        if target in _SLICES:
            return self._slice(node, sizes, before, index)
        if target is aten.linear.default:
            return (*without(before, [rank - 1], keep=False), fresh("C", sizes[-1]))
        if target is aten.scaled_dot_product_attention.default:
            return (*before[:-1], fresh("C", sizes[-1]))
        if target in _PRODUCTS and rank == len(sizes) >= 2:
            other = self._axes.get(args[1])  # type: ignore[arg-type]
            last = other[-1] if isinstance(other, tuple) and other else fresh("?", sizes[-1])
            return (*without(before, [rank - 1], keep=False), last)
        if target in _PLANAR:
            return planar(before, sizes, self._batch)
        if target in _RESIZING:
            return tuple(resized(a, s) for a, s in zip(before, sizes, strict=True))
        if target in _SAME_SHAPE_BUT_MOVED:
            return tuple(blank(self._batch, s) for s in sizes)
        return None

    def _slice(self, node: fx.Node, sizes: list[int], before: Axes, index: int) -> Axes:
        axis, start = _slice_axis(node, len(before), index, before)
        return (*before[:axis], sliced(before[axis], start, sizes[axis]), *before[axis + 1 :])

    def _cat(self, node: fx.Node, sizes: list[int]) -> Axes:
        sources: list[Any] = list(node.args[0])  # type: ignore[arg-type]
        axis = int(node.args[1]) % len(sizes) if len(node.args) > 1 else 0  # type: ignore[call-overload]
        known = [self._axes[source] for source in sources]
        inputs = [a if isinstance(a, tuple) and len(a) == len(sizes) else None for a in known]
        return joined(inputs, [_sizes(source.meta["val"])[axis] for source in sources], axis, sizes)

    def _same_shape(self, node: fx.Node, sizes: list[int]) -> Axes:
        known: list[Any] = []
        if node.op == "call_function" and node.target not in _SAME_SHAPE_BUT_MOVED:
            known = [self._axes.get(source) for source in node.all_input_nodes]
        return broadcast([axes for axes in known if isinstance(axes, tuple)], sizes, self._batch)


def _order(node: fx.Node, rank: int) -> list[int]:
    """Which input axis each output axis is, read off a run on sizes that tell them apart."""
    probe = torch.empty(tuple(range(2, 2 + rank)), device="meta")
    moved = node.target(probe, *node.args[1:], **node.kwargs)  # type: ignore[operator]
    return [size - 2 for size in moved.shape]


def _slice_axis(node: fx.Node, rank: int, index: int, before: Axes) -> tuple[int, int]:
    """Axis and first position of a slice, or of output `index` of a split."""
    args = (*node.args, *node.kwargs.values())
    if node.target is aten.slice.Tensor:
        axis = int(args[1]) % rank if len(args) > 1 else 0  # type: ignore[arg-type]
        start = args[2] if len(args) > 2 else 0
        step = args[4] if len(args) > 4 else 1
        size = count(before[axis])
        first = 0 if not isinstance(start, int) else max(0, start + size if start < 0 else start)
        return axis, first if step == 1 else -1
    if node.target is aten.narrow.default:
        return int(args[1]) % rank, int(args[2])  # type: ignore[arg-type]
    axis = int(args[2]) % rank if len(args) > 2 else 0  # type: ignore[arg-type]
    parts = [_sizes(item)[axis] for item in node.meta["val"]]
    return axis, sum(parts[:index])
