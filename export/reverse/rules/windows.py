"""Geometry of sliding windows, shared by convolution and pooling."""

from __future__ import annotations

from dataclasses import dataclass

from ...graph import Shape
from ..emitter import Value
from ..registry import Context

__all__ = ["Windows", "is_static", "place_windows", "read_windows"]


@dataclass(frozen=True)
class Windows:
    """Per spatial axis: kernel size, stride, dilation, padding before and after, all in cells."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]

    @property
    def count(self) -> int:
        return len(self.kernel)

    @property
    def spans(self) -> list[int]:
        """Cells from the first to the last tap, inclusive."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    @property
    def padded(self) -> bool:
        return any(self.before) or any(self.after)


def is_static(dims: Shape) -> bool:
    """True when every dim is a number."""
    return all(isinstance(d, int) for d in dims)


def read_windows(c: Context, x: Value, kernel: list[int]) -> Windows:
    """The node's windows over `x`, with ``auto_pad`` written out."""
    n = len(kernel)
    strides = c.attr("strides") or [1] * n
    dilations = c.attr("dilations") or [1] * n
    pads = c.attr("pads") or [0] * (2 * n)
    before, after = list(pads[:n]), list(pads[n:])
    mode = c.attr("auto_pad", "NOTSET")
    if mode == "VALID":
        before, after = [0] * n, [0] * n
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
            span = (k - 1) * d + 1
            if s == 1:
                total = span - 1
            else:
                size = c.static(x, [i + 2], f"the input's spatial size (auto_pad={mode} with stride {s})")[0]
                total = max((-(-size // s) - 1) * s + span - size, 0)
            half = total // 2
            before.append(half if mode == "SAME_UPPER" else total - half)
            after.append(total - before[-1])
    return Windows(list(kernel), list(strides), list(dilations), before, after)


def place_windows(c: Context, g: Value, weight: Value, x: Value, w: Windows, group: int) -> Value:
    """Adjoint of a convolution of `x` with `weight`: each output cell's gradient laid over its window.

    g: (N, M, *out) at full shape. weight: (M, C / group, *kernel). Returns the shape of `x`.
    """
    e = c.e
    spatial = range(2, 2 + w.count)
    sizes = [x.dims[a] for a in spatial]
    outs = [g.dims[a] for a in spatial]
    if all(isinstance(d, int) for d in (*sizes, *outs)):
        extra = [
            int(size or 0) - (s * (int(out or 0) - 1) + span - b - a)
            for size, out, s, span, b, a in zip(sizes, outs, w.strides, w.spans, w.before, w.after, strict=True)
        ]
        # A window that hangs over the far end (ceil mode) writes cells that the input lacks.
        overhang = [max(-v, 0) for v in extra]
        return e(
            "ConvTranspose",
            g,
            weight,
            group=group,
            strides=w.strides,
            dilations=w.dilations,
            pads=[*w.before, *(a + o for a, o in zip(w.after, overhang, strict=True))],
            output_padding=[max(v, 0) for v in extra],
            shape=x.shape,
        )
    wide = e(
        "ConvTranspose",
        g,
        weight,
        group=group,
        strides=w.strides,
        dilations=w.dilations,
        output_padding=[s - 1 for s in w.strides],
    )
    for i, axis in enumerate(spatial):
        size = e.dim(x, axis)
        wide = e.slice(wide, axis, w.before[i], size + w.before[i], length=x.dims[axis])
    return wide
