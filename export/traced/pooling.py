"""Adjoints of poolings: no indices, no scatter.

Every function takes the arguments of the ATen operator that it replaces, with `gradient`
(N, C, rows, columns) and `source` (N, C, H, W).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .along_axis import adjoint_along, axis_matrix

__all__ = [
    "adaptive_avg_pool_backward",
    "adaptive_max_pool_backward",
    "avg_pool3d_backward",
    "avg_pool_backward",
    "max_pool_backward",
]

aten = torch.ops.aten


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

    One transposed convolution with a constant kernel that sends patch i to offset i. A single
    patch (N, C, 1, Ho, Wo) stands for equal ones and is sent to every offset.
    """
    batch, channels, count, rows, columns = patches.shape
    if _tiles((rows, columns), size, stride, padding, dilation, kernel):
        if count == 1:
            patches = patches.expand(batch, channels, kernel[0] * kernel[1], rows, columns)
        apart = patches.reshape(batch, channels, *kernel, rows, columns)
        return apart.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, *size)
    if count == 1:
        place = torch.ones(1, 1, *kernel, dtype=patches.dtype, device=patches.device)
    else:
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


def _tiles(
    grid: tuple[int, int],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    kernel: tuple[int, int],
) -> bool:
    """Whether the windows lie side by side and cover everything."""
    filled = all(grid[a] * kernel[a] == size[a] for a in (0, 1))
    return filled and stride == kernel and padding == (0, 0) and dilation == (1, 1)


def max_pool_backward(
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
    slices = [
        padded[:, :, top : top + (rows - 1) * sh + 1 : sh, left : left + (columns - 1) * sw + 1 : sw]
        for top, left in itertools.product(range(0, kh * dh, dh), range(0, kw * dw, dw))
    ]
    parts = _to_first_best(gradient, best, slices)
    return _overlap_add(torch.stack(parts, 2), (height, width), (sh, sw), (ph, pw), (dh, dw), (kh, kw))


def _to_first_best(gradient: Tensor, best: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
    """For each of `values` the gradient where it is the first that equals `best`, zero elsewhere."""
    taken = None
    parts = []
    for value in values:
        equal = value == best
        hit = equal if taken is None else equal & ~taken
        taken = equal if taken is None else taken | equal
        parts.append(torch.where(hit, gradient, 0.0))
    return parts


def adaptive_max_pool_backward(gradient: Tensor, source: Tensor, indices: Tensor) -> Tensor:
    """As `max_pool_backward`, with windows that may differ in size by one cell."""
    size = (int(source.shape[2]), int(source.shape[3]))
    grid = (int(gradient.shape[2]), int(gradient.shape[3]))
    if all(size[a] % grid[a] == 0 for a in (0, 1)):
        kernel = [size[a] // grid[a] for a in (0, 1)]
        return max_pool_backward(gradient, source, kernel, kernel, [0, 0], [1, 1], False, indices)
    best = aten.adaptive_max_pool2d(source, list(grid))[0]
    # Where offset i of every window lies: its last cell again when the window is shorter, where it
    # equals what has been counted already.
    places = [_window_cells(size[a], grid[a]) for a in (0, 1)]
    corners = list(itertools.product(*places))
    values = [source.index_select(2, _constant(r)).index_select(3, _constant(c)) for r, c in corners]
    total = None
    for (rows, columns), part in zip(corners, _to_first_best(gradient, best, values), strict=True):
        for axis, cells in ((2, rows), (3, columns)):
            place = torch.tensor(
                [[float(cell == i) for cell in cells] for i in range(size[axis - 2])], dtype=gradient.dtype
            )
            part = adjoint_along(axis, part, place)
        total = part if total is None else total + part
    assert total is not None
    return total


def _window_cells(size: int, windows: int) -> list[list[int]]:
    """Per offset, the cell that it means in each window of an adaptive pooling."""
    starts = [(i * size) // windows for i in range(windows)]
    ends = [-((-(i + 1) * size) // windows) for i in range(windows)]
    longest = max(end - start for start, end in zip(starts, ends, strict=True))
    return [[min(start + o, end - 1) for start, end in zip(starts, ends, strict=True)] for o in range(longest)]


def _constant(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def avg_pool_backward(
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
    return _overlap_add(gradient[:, :, None], size, size_stride, size_padding, (1, 1), size_kernel)


def _window_sizes(size: int, windows: int, kernel: int, stride: int, padding: int, include: bool) -> list[int]:
    """How many cells each window's mean divides by, along one axis (PyTorch's definition)."""
    found = []
    for index in range(windows):
        start = index * stride - padding
        end = min(start + kernel, size + padding)
        found.append(end - start if include else min(end, size) - max(start, 0))
    return found


def avg_pool3d_backward(
    gradient: Tensor,
    source: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """What local response normalisation takes its means over channels with: one matrix per axis."""

    def three(values: Sequence[int]) -> list[int]:
        return list(values) * 3 if len(values) == 1 else list(values)

    sizes, pads = three(kernel), three(padding)
    steps = three(stride) if len(stride) else sizes
    if divisor_override:
        gradient = gradient * (math.prod(sizes) / divisor_override)
        count_include_pad = True
    for axis, (k, s, p) in enumerate(zip(sizes, steps, pads, strict=True), source.dim() - 3):
        if (k, s, p) == (1, 1, 0):
            continue

        def average(unit: Tensor, k: int = k, s: int = s, p: int = p) -> Tensor:
            return F.avg_pool1d(unit[None], k, s, p, ceil_mode, count_include_pad)[0]

        gradient = adjoint_along(axis, gradient, axis_matrix(int(source.shape[axis]), gradient.dtype, average))
    return gradient


def adaptive_avg_pool_backward(gradient: Tensor, source: Tensor) -> Tensor:
    """Pooling to a fixed grid is a product with one small matrix per axis; so is its adjoint."""
    for axis in (2, 3):
        size, cells = int(source.shape[axis]), int(gradient.shape[axis])
        if size == cells:  # pooling to the size it has: nothing happened
            continue

        def average(unit: Tensor, cells: int = cells) -> Tensor:
            return F.adaptive_avg_pool1d(unit[None], cells)[0]

        gradient = adjoint_along(axis, gradient, axis_matrix(size, gradient.dtype, average))
    return gradient
