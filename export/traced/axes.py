"""What the axes of every traced value mean: batch, rows, columns, channels.

The image is (N, C, H, W); from there on each operator says what it does to the axes. An
axis is a product of *parts*, most significant first, and a part is a digit of the row or
column number (or of the channel, or of something unknown). Reshapes split and join parts,
transposes move them, so that windows, patches and any order of tokens are followed exactly:
a value has a grid when the digits of one H and one W are complete in it.

Where an operator is not known the axes are "unknown" rather than guessed. A later
operator that fixes the meaning (a residual sum, a 2-D convolution) finds it again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from .layouts import Digit, Layout

__all__ = ["AxisMap", "Tokens", "map_axes"]

aten = torch.ops.aten

Kind = Literal["N", "H", "W", "C", "T", "?"]


@dataclass(frozen=True, eq=False)
class Root:
    """A whole axis that the parts are digits of.

    kind "T" is a token axis that holds more than the grid: `prefix` tokens, then the ones
    of `parts`, then `suffix` more.
    """

    kind: Kind
    size: int
    prefix: int = 0
    parts: tuple[Part, ...] = ()
    suffix: int = 0


@dataclass(frozen=True)
class Part:
    """The digit ``(index // stride) % size`` of a root's index."""

    root: Root
    stride: int
    size: int

    @property
    def whole(self) -> bool:
        return self.stride == 1 and self.size == self.root.size

    @property
    def coarse(self) -> bool:
        """Whether it is the root's most significant digit: a number of blocks of rows, say."""
        return self.stride * self.size == self.root.size


Axis = tuple[Part, ...]  # the empty product is an axis of size 1
Axes = tuple[Axis, ...]


@dataclass(frozen=True)
class Tokens:
    """A token axis with more on it than the grid: see `Root`."""

    prefix: int
    count: int


class AxisMap:
    """The axes of every value of one graph."""

    def __init__(self, axes: dict[fx.Node, Any]) -> None:
        self._axes = axes

    def layout(self, node: fx.Node) -> Layout | None:
        """How `node` holds its grid; None when it has none that is known."""
        axes = self._axes.get(node)
        if not isinstance(axes, tuple) or len(axes) not in (3, 4) or not _is_batch(axes[0]):
            return None
        if len(axes) == 4:
            if _are_grid(axes[2], axes[3], axes[1]):
                return Layout("NCHW")
            if _are_grid(axes[1], axes[2], axes[3]):
                return Layout("NHWC")
            return None
        tokens, channels = axes[1], axes[2]
        if any(part.root.kind in ("N", "H", "W", "T") for part in channels):
            return None
        prefix = suffix = 0
        if len(tokens) == 1 and tokens[0].root.kind == "T" and tokens[0].whole:
            root = tokens[0].root
            prefix, suffix, tokens = root.prefix, root.suffix, root.parts
        digits = _grid_digits(tokens)
        return None if digits is None else Layout("NTC", prefix, digits, suffix)

    def tokens(self, node: fx.Node, axis: int) -> Tokens | None:
        """What `axis` of `node` holds, when that is a grid's tokens and others."""
        axes = self._axes.get(node)
        if not isinstance(axes, tuple) or len(axes) <= axis:
            return None
        if len(axes[axis]) == 1 and axes[axis][0].root.kind == "T" and axes[axis][0].whole:
            root = axes[axis][0].root
            return Tokens(root.prefix, _product(root.parts))
        return None


def map_axes(graph: fx.Graph) -> AxisMap:
    """Follow the axes of the image, the first placeholder, through `graph`."""
    axes: dict[fx.Node, Any] = {}
    image = next(node for node in graph.nodes if node.op == "placeholder")
    batch = Root("N", _sizes(image.meta["val"])[0])
    follow = _Follow(axes, batch)
    for node in graph.nodes:
        if node is image and len(node.meta["val"].shape) == 4:
            sizes = _sizes(node.meta["val"])
            axes[node] = ((Part(batch, 1, batch.size),), *(_fresh(k, s) for k, s in zip("CHW", sizes[1:], strict=True)))
        elif node.op != "output":
            axes[node] = follow(node)
    return AxisMap(axes)


def _sizes(value: torch.Tensor) -> list[int]:
    """Sizes as numbers; the symbolic batch as the size that it had in the example."""
    return [size if isinstance(size, int) else int(size.node.hint) for size in value.shape]


def _fresh(kind: Any, size: int) -> Axis:
    return () if size == 1 else (Part(Root(kind, size), 1, size),)


def _product(parts: Sequence[Part]) -> int:
    return math.prod(part.size for part in parts)


def _is_batch(axis: Axis) -> bool:
    return len(axis) == 1 and axis[0].root.kind == "N" and axis[0].whole


def _are_grid(rows: Axis, columns: Axis, channels: Axis) -> bool:
    """Whether the three are H, W and C. Cells may be blocks whose own cells count as channels."""
    if (_plain_kind(rows), _plain_kind(columns)) != ("H", "W"):
        return False
    inside = {rows[0].root, columns[0].root}
    return all(part.root in inside or part.root.kind in ("C", "?") for part in channels)


def _plain_kind(axis: Axis) -> Kind:
    """The kind of an axis that is one whole root, or "?" ("C" for an axis of size 1)."""
    if not axis:
        return "C"
    if len(axis) == 1 and axis[0].coarse:
        return axis[0].root.kind
    return "C" if all(part.root.kind == "C" for part in axis) else "T" if _places(axis) else "?"


def _places(axis: Axis) -> bool:
    return any(part.root.kind in ("H", "W", "T", "N") for part in axis)


def _grid_digits(parts: Axis) -> tuple[Digit, ...] | None:
    """The parts as digits, when they are exactly those of one H and one W."""
    roots = {part.root for part in parts}
    # A grid of one row (or column) leaves no trace of that axis, and is no grid to look at.
    if sorted(root.kind for root in roots) != ["H", "W"]:
        return None
    if any(math.prod(p.size for p in parts if p.root is root) != root.size for root in roots):
        return None
    return tuple(Digit("H" if p.root.kind == "H" else "W", p.stride, p.size) for p in parts)


def _join(parts: Axis) -> Axis:
    """Neighbouring digits of one root that follow each other are one digit."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last is not None and last.root is part.root and last.stride == part.stride * part.size:
            joined[-1] = Part(part.root, part.stride, last.size * part.size)
        else:
            joined.append(part)
    return tuple(joined)


def _regroup(axes: Axes, sizes: Sequence[int]) -> Axes:
    """A reshape: the parts in order, split and joined so that they make up `sizes`."""
    queue = [part for axis in axes for part in axis]
    result: list[Axis] = []
    for size in sizes:
        taken: list[Part] = []
        left = size
        while left > 1 and queue:
            part = queue.pop(0)
            if left % part.size == 0:
                taken.append(part)
                left //= part.size
            elif part.size % left == 0:
                rest = part.size // left
                taken.append(Part(part.root, part.stride * rest, left))
                queue.insert(0, Part(part.root, part.stride, rest))
                left = 1
            else:  # sizes that share no common split: the meaning is lost
                return tuple(_fresh("?", s) for s in sizes)
        if left > 1:
            return tuple(_fresh("?", s) for s in sizes)
        result.append(_join(tuple(taken)))
    return tuple(result)


def _without(axes: Axes, gone: Sequence[int], keep: bool) -> Axes:
    """Axes after a reduction over `gone`. Digits that vanish leave a coarser row or column."""
    removed = [part for axis in gone for part in axes[axis]]
    left = [() if i in gone else axis for i, axis in enumerate(axes) if keep or i not in gone]
    for root in {part.root for part in removed}:
        if not any(part.root is root for axis in left for part in axis):
            continue
        lost = [part for part in removed if part.root is root]
        span = math.prod(part.size for part in lost)
        # Only the lowest digits may go: a mean over neighbours. Anything else has no place.
        kind: Kind = root.kind if _covers_lowest(lost, span) else "?"
        coarse = Root(kind, root.size // span)

        def renew(part: Part, root: Root = root, coarse: Root = coarse, span: int = span) -> Part:
            if part.root is not root:
                return part
            return Part(coarse, part.stride // span if part.stride % span == 0 else part.stride, part.size)

        left = [tuple(renew(part) for part in axis) for axis in left]
    return tuple(left)


def _covers_lowest(parts: Sequence[Part], span: int) -> bool:
    stride = 1
    for part in sorted(parts, key=lambda p: p.stride):
        if part.stride != stride:
            return False
        stride *= part.size
    return stride == span


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
        return tuple(self._blank(size) for size in _sizes(value))

    def _blank(self, size: int) -> Axis:
        # The batch was chosen to equal no other size, so its number gives it away.
        return (Part(self._batch, 1, size),) if size == self._batch.size else _fresh("?", size)

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
        if len(found) != len(sizes) or any(_product(a) != s for a, s in zip(found, sizes, strict=True)):
            return self._unknown(value)
        return found

    def _known(self, node: fx.Node, sizes: list[int], before: Axes, index: int) -> Axes | None:
        target, args, rank = node.target, node.args, len(before)
        if target in _RESHAPES:
            return _regroup(before, sizes)
        if target in _TRANSPOSES:
            order = _order(node, rank)
            return tuple(before[i] for i in order)
        if target is aten.expand.default:
            padded = ((),) * (len(sizes) - rank) + before
            return tuple(a if _product(a) == s else self._blank(s) for a, s in zip(padded, sizes, strict=True))
        if target in _REDUCTIONS:
            dims = args[1] if len(args) > 1 else None
            dims = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(rank))  # type: ignore[call-overload]
            return _without(before, [d % rank for d in dims], keep=len(sizes) == rank)
        if target is aten.select.int:
            axis = int(args[1]) % rank  # type: ignore[arg-type]
            return tuple(_forget(a, before[axis]) for i, a in enumerate(before) if i != axis)
        if target is aten.unbind.int:
            axis = int(args[1]) % rank if len(args) > 1 else 0  # type: ignore[arg-type]
            return tuple(_forget(a, before[axis]) for i, a in enumerate(before) if i != axis)
        if target in _SLICES:
            return self._slice(node, sizes, before, index)
        if target is aten.linear.default:
            return (*_without(before, [rank - 1], keep=False), _fresh("C", sizes[-1]))
        if target is aten.scaled_dot_product_attention.default:
            return (*before[:-1], _fresh("C", sizes[-1]))
        if target in _PRODUCTS and rank == len(sizes) >= 2:
            other = self._axes.get(args[1])  # type: ignore[arg-type]
            last = other[-1] if isinstance(other, tuple) and other else _fresh("?", sizes[-1])
            return (*_without(before, [rank - 1], keep=False), last)
        if target in _PLANAR:
            return self._planar(sizes, before)
        if target in _RESIZING:
            return tuple(_resized(a, s) for a, s in zip(before, sizes, strict=True))
        if target in _SAME_SHAPE_BUT_MOVED:
            return tuple(self._blank(s) for s in sizes)
        return None

    def _planar(self, sizes: list[int], before: Axes) -> Axes | None:
        if len(sizes) != 4 or len(before) != 4:
            return None
        kinds = [_plain_kind(axis) for axis in before]
        channels = before[1] if _product(before[1]) == sizes[1] else _fresh("C", sizes[1])
        if kinds[2:] == ["H", "W"]:
            return (before[0], channels, _resized(before[2], sizes[2]), _resized(before[3], sizes[3]))
        if _is_batch(before[0]) and not _places(before[2]) and not _places(before[3]):
            return (before[0], channels, _fresh("H", sizes[2]), _fresh("W", sizes[3]))
        return (before[0], channels, self._blank(sizes[2]), self._blank(sizes[3]))

    def _slice(self, node: fx.Node, sizes: list[int], before: Axes, index: int) -> Axes:
        axis, start = _slice_axis(node, len(before), index, before)
        size = sizes[axis]
        if size == _product(before[axis]):
            return before
        whole = before[axis]
        part = _resized(whole, size)
        if len(whole) == 1 and whole[0].root.kind == "T":
            root = whole[0].root
            inside = start - root.prefix
            if inside == 0 and size == _product(root.parts):
                part = root.parts
            else:
                part = _fresh("?", size)
        return (*before[:axis], part, *before[axis + 1 :])

    def _cat(self, node: fx.Node, sizes: list[int]) -> Axes:
        sources: list[Any] = list(node.args[0])  # type: ignore[arg-type]
        axis = int(node.args[1]) % len(sizes) if len(node.args) > 1 else 0  # type: ignore[call-overload]
        inputs = [self._axes[source] for source in sources]
        inputs = [a if isinstance(a, tuple) and len(a) == len(sizes) else None for a in inputs]
        result = []
        for i, size in enumerate(sizes):
            if i != axis:
                result.append(_best([a[i] for a in inputs if a is not None and _product(a[i]) == size], size))
                continue
            parts = [None if a is None else a[i] for a in inputs]
            result.append(self._joined_tokens(parts, [_sizes(s.meta["val"])[i] for s in sources], size))
        return tuple(result)

    def _joined_tokens(self, parts: list[Axis | None], lengths: list[int], size: int) -> Axis:
        grids = [i for i, part in enumerate(parts) if part and _grid_digits(part) is not None]
        if len(grids) == 1:
            (at,) = grids
            grid = parts[at]
            assert grid is not None
            return (Part(Root("T", size, sum(lengths[:at]), grid, sum(lengths[at + 1 :])), 1, size),)
        kinds = {_plain_kind(part) if part else "?" for part in parts}
        return _fresh(kinds.pop() if len(kinds) == 1 and not kinds & {"T", "N"} else "?", size)

    def _same_shape(self, node: fx.Node, sizes: list[int]) -> Axes:
        """Element by element, with broadcasting: each axis from the input that knows it best."""
        found: list[list[Axis]] = [[] for _ in sizes]
        if node.op == "call_function" and node.target not in _SAME_SHAPE_BUT_MOVED:
            for source in node.all_input_nodes:
                axes = self._axes.get(source)
                if not isinstance(axes, tuple) or len(axes) > len(sizes):
                    continue
                offset = len(sizes) - len(axes)
                if any(_product(a) not in (1, sizes[offset + i]) for i, a in enumerate(axes)):
                    continue
                for i, axis in enumerate(axes):
                    if _product(axis) == sizes[offset + i]:
                        found[offset + i].append(axis)
        return tuple(_best(a, s) if a else self._blank(s) for a, s in zip(found, sizes, strict=True))


def _best(axes: Sequence[Axis], size: int) -> Axis:
    """The first that knows places, else the first that knows anything."""
    for useful in (_places, lambda axis: all(p.root.kind != "?" for p in axis)):
        for axis in axes:
            if useful(axis):
                return axis
    return axes[0] if axes else _fresh("?", size)


def _resized(axis: Axis, size: int) -> Axis:
    """An axis that was cut, padded or pooled to `size`: the same kind, other numbers."""
    if _product(axis) == size:
        return axis
    kind = _plain_kind(axis)
    return _fresh(kind if kind in ("H", "W", "C") else "?", size)


def _forget(axis: Axis, selected: Axis) -> Axis:
    """`axis` after one index of `selected` was picked: shared roots are no longer whole."""
    roots = {part.root for part in selected}
    return _fresh("?", _product(axis)) if any(part.root in roots for part in axis) else axis


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
        size = _product(before[axis])
        first = 0 if not isinstance(start, int) else max(0, start + size if start < 0 else start)
        return axis, first if step == 1 else -1
    if node.target is aten.narrow.default:
        return int(args[1]) % rank, int(args[2])  # type: ignore[arg-type]
    axis = int(args[2]) % rank if len(args) > 2 else 0  # type: ignore[arg-type]
    parts = [_sizes(item)[axis] for item in node.meta["val"]]
    return axis, sum(parts[:index])
