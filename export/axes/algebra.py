"""What the axes of a value mean: batch, rows, columns, channels; for all sources.

An axis is a product of *parts*, most significant first, and a part is a digit of the row or
column number (or of the channel, or of something unknown). Reshapes split and join parts,
transposes move them, so that windows, patches and any order of tokens are followed exactly:
a value has a grid when the digits of one H and one W are complete in it.

Here is what operators can do to axes; which operator does what, `onnx_values` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .layout import Digit, Layout

__all__ = [
    "Axes",
    "Axis",
    "Part",
    "Root",
    "best_known",
    "blank",
    "broadcast",
    "count",
    "forget",
    "fresh",
    "has_place",
    "image_axes",
    "is_assumed",
    "joined",
    "layout_of",
    "planar",
    "regroup",
    "resized",
    "sliced",
    "without",
]

Kind = Literal["N", "H", "W", "C", "T", "?"]


@dataclass(frozen=True, eq=False)
class Root:
    """A whole axis that the parts are digits of.

    assumed: that it counts rows, or columns, of the image was not followed from there: the operator that takes it for
    such says so. kind "T" is a token axis that holds more than the grid: `prefix` tokens, then the ones
    of `parts`, then `suffix` more; without parts it holds places in an order that is lost.
    """

    kind: Kind
    size: int
    prefix: int = 0
    parts: tuple[Part, ...] = ()
    suffix: int = 0
    assumed: bool = False


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


def fresh(kind: Any, size: int, *, assumed: bool = False) -> Axis:
    return () if size == 1 else (Part(Root(kind, size, assumed=assumed), 1, size),)


def count(parts: Sequence[Part]) -> int:
    return math.prod(part.size for part in parts)


def image_axes(batch: Root, sizes: Sequence[int]) -> Axes:
    """The axes of an image (N, C, H, W)."""
    first: Axis = () if batch.size == 1 else (Part(batch, 1, batch.size),)
    return (first, *(fresh(kind, size) for kind, size in zip("CHW", sizes[1:], strict=True)))


def blank(batch: Root, size: int) -> Axis:
    """An axis of which only the size is known: the batch equals no other size, so its number gives it away."""
    return (Part(batch, 1, size),) if size == batch.size and size > 1 else fresh("?", size)


def layout_of(axes: Axes) -> Layout | None:
    """How a value with these axes holds its grid; None when it has none that is known."""
    if len(axes) not in (3, 4) or not _is_batch(axes[0]):
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


def planar(before: Axes, sizes: Sequence[int], batch: Root) -> Axes | None:
    """Of an operator whose input is (N, C, H, W) by definition: convolution, pooling, resizing."""
    if len(sizes) != 4 or len(before) != 4:
        return None
    channels = before[1] if count(before[1]) == sizes[1] else fresh("C", sizes[1])
    if _counts(before[2], "H") and _counts(before[3], "W") and any(before[2:]):
        # An only row that is enlarged is rows again.
        rows, columns = (
            resized(a, s) if a else fresh(k, s) for a, s, k in zip(before[2:], sizes[2:], "HW", strict=True)
        )
        return (before[0], channels, rows, columns)
    if _is_batch(before[0]) and not has_place(before[2]) and not has_place(before[3]):
        rows, columns = (fresh(kind, size, assumed=True) for kind, size in zip("HW", sizes[2:], strict=True))
        return (before[0], channels, rows, columns)
    return (before[0], channels, blank(batch, sizes[2]), blank(batch, sizes[3]))


def sliced(axis: Axis, start: int, size: int) -> Axis:
    """`size` neighbours of an axis from `start` on (-1: not neighbours)."""
    if size == count(axis):
        return axis
    if len(axis) == 1 and axis[0].root.kind == "T":
        root = axis[0].root
        if start == root.prefix and size == count(root.parts):
            return root.parts
        return fresh("?" if root.parts else "T", size)
    return resized(axis, size)


def broadcast(inputs: Sequence[Axes], sizes: Sequence[int], batch: Root) -> Axes:
    """Element by element: each axis from the input that knows it best."""
    found: list[list[Axis]] = [[] for _ in sizes]
    for axes in inputs:
        offset = len(sizes) - len(axes)
        if offset < 0 or any(count(axis) not in (1, sizes[offset + i]) for i, axis in enumerate(axes)):
            continue
        for i, axis in enumerate(axes):
            if count(axis) == sizes[offset + i]:
                found[offset + i].append(axis)
    return tuple(best_known(a, s) if a else blank(batch, s) for a, s in zip(found, sizes, strict=True))


def joined(inputs: Sequence[Axes | None], lengths: Sequence[int], axis: int, sizes: Sequence[int]) -> Axes:
    """Values put behind each other along `axis`, of which they have `lengths`."""
    result = []
    for i, size in enumerate(sizes):
        if i == axis:
            result.append(_joined_tokens([None if a is None else a[i] for a in inputs], lengths, size))
        else:
            result.append(best_known([a[i] for a in inputs if a is not None and count(a[i]) == size], size))
    return tuple(result)


def _is_batch(axis: Axis) -> bool:
    # The batch of a model that takes one image has size 1 and leaves no trace.
    return not axis or (len(axis) == 1 and axis[0].root.kind == "N" and axis[0].whole)


def _are_grid(rows: Axis, columns: Axis, channels: Axis) -> bool:
    """Whether the three are H, W and C. Cells may be blocks whose own cells count as channels.

    A single row, or column, leaves no trace of its axis; of a single cell nothing is left.
    """
    if not (_counts(rows, "H") and _counts(columns, "W") and rows + columns):
        return False
    inside = {part.root for part in rows + columns}
    return all(part.root in inside or part.root.kind in ("C", "?") for part in channels)


def _counts(axis: Axis, kind: Kind) -> bool:
    """Whether an axis counts rows ("H"), or columns; a single one counts as either."""
    return not axis or plain_kind(axis) == kind


def is_assumed(axes: Axes) -> bool:
    """Whether the grid of a value with these axes was assumed somewhere on the way."""
    parts = [part for axis in axes for part in axis]
    return any(part.root.assumed or any(inner.root.assumed for inner in part.root.parts) for part in parts)


def plain_kind(axis: Axis) -> Kind:
    """The kind of an axis that is one whole root, or "?" ("C" for an axis of size 1)."""
    if not axis:
        return "C"
    if len(axis) == 1 and axis[0].coarse:
        return axis[0].root.kind
    return "C" if all(part.root.kind == "C" for part in axis) else "T" if has_place(axis) else "?"


def has_place(axis: Axis) -> bool:
    return any(part.root.kind in ("H", "W", "T", "N") for part in axis)


def _grid_digits(parts: Axis) -> tuple[Digit, ...] | None:
    """The parts as digits, when they are exactly those of one H and one W, or of the only row or column."""
    roots = {part.root for part in parts}
    kinds = sorted(root.kind for root in roots)
    if kinds not in (["H", "W"], ["H"], ["W"]):
        return None
    if any(math.prod(p.size for p in parts if p.root is root) != root.size for root in roots):
        return None
    digits = tuple(Digit("H" if p.root.kind == "H" else "W", p.stride, p.size) for p in parts)
    return {"H": (*digits, Digit("W", 1, 1)), "W": (Digit("H", 1, 1), *digits)}.get("".join(kinds), digits)


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


def regroup(axes: Axes, sizes: Sequence[int]) -> Axes:
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
                return tuple(fresh("?", s) for s in sizes)
        if left > 1:
            return tuple(fresh("?", s) for s in sizes)
        result.append(_join(tuple(taken)))
    return tuple(result)


def without(axes: Axes, gone: Sequence[int], keep: bool) -> Axes:
    """Axes after a reduction over `gone`. Digits that vanish leave a coarser row or column."""
    removed = [part for axis in gone for part in axes[axis]]
    left = [() if i in gone else axis for i, axis in enumerate(axes) if keep or i not in gone]
    for root in {part.root for part in removed}:
        if not any(part.root is root for axis in left for part in axis):
            continue
        lost = [part for part in removed if part.root is root]
        if any(_overlap(part, other) for axis in left for part in axis for other in lost if part.root is root):
            continue  # the digits are there twice (tokens by tokens), and stay once
        span = math.prod(part.size for part in lost)
        # Only the lowest digits may go: a mean over neighbours. Anything else has no place.
        kind: Kind = root.kind if _covers_lowest(lost, span) else "?"
        coarse = Root(kind, root.size // span, assumed=root.assumed)

        def renew(part: Part, root: Root = root, coarse: Root = coarse, span: int = span) -> Part:
            if part.root is not root:
                return part
            return Part(coarse, part.stride // span if part.stride % span == 0 else part.stride, part.size)

        left = [tuple(renew(part) for part in axis) for axis in left]
    return tuple(left)


def _overlap(one: Part, other: Part) -> bool:
    return max(one.stride, other.stride) < min(one.stride * one.size, other.stride * other.size)


def _covers_lowest(parts: Sequence[Part], span: int) -> bool:
    stride = 1
    for part in sorted(parts, key=lambda p: p.stride):
        if part.stride != stride:
            return False
        stride *= part.size
    return stride == span


def best_known(axes: Sequence[Axis], size: int) -> Axis:
    """The first that knows places, else the first that knows anything."""
    for useful in (has_place, lambda axis: all(p.root.kind != "?" for p in axis)):
        for axis in axes:
            if useful(axis):
                return axis
    return axes[0] if axes else fresh("?", size)


def resized(axis: Axis, size: int) -> Axis:
    """An axis that was cut, padded or pooled to `size`: the same kind, other numbers."""
    if count(axis) == size:
        return axis
    kind = plain_kind(axis)
    assumed = any(part.root.assumed for part in axis)
    return fresh(kind if kind in ("H", "W", "C", "T") else "?", size, assumed=assumed)


def forget(axis: Axis, selected: Axis) -> Axis:
    """`axis` after one index of `selected` was picked: shared roots are no longer whole."""
    roots = {part.root for part in selected}
    return fresh("?", count(axis)) if any(part.root in roots for part in axis) else axis


def _joined_tokens(parts: Sequence[Axis | None], lengths: Sequence[int], size: int) -> Axis:
    """Axes put behind each other: a grid and tokens before and behind it, or more of the same kind."""
    grids = [i for i, part in enumerate(parts) if part and _grid_digits(part) is not None]
    if len(grids) == 1:
        (at,) = grids
        grid = parts[at]
        assert grid is not None
        return (Part(Root("T", size, sum(lengths[:at]), grid, sum(lengths[at + 1 :])), 1, size),)
    kinds = {plain_kind(part) if part else "?" for part in parts}
    return fresh(kinds.pop() if len(kinds) == 1 and kinds != {"N"} else "?", size)
