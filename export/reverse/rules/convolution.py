"""Conv and ConvTranspose, 1-D to 3-D."""

from __future__ import annotations

from ..emitter import Value
from ..registry import Context, Gradients, rule
from .windows import Windows, place_windows, read_windows

__all__: list[str] = []


@rule("Conv")
def conv(c: Context) -> Gradients:
    x, weight = c.x(0), c.x(1)
    kernel = c.attr("kernel_shape") or c.static(weight, list(range(2, weight.rank)), "the kernel's size")
    w = read_windows(c, x, kernel)
    group = c.attr("group", 1)
    return {
        0: lambda: _conv_input(c, x, weight, w, group),
        1: lambda: _conv_weight(c, x, c.full, weight, w, group),
        2: lambda: _conv_bias(c),
    }


def _conv_input(c: Context, x: Value, weight: Value, w: Windows, group: int) -> Value:
    e, y = c.e, c.y()
    spatial = list(range(2, x.rank))
    whole = [x.dims[a] for a in spatial] == w.spans and not w.padded
    if c.seed is not None and c.seed.axis == 1 and group == 1 and whole and all(d == 1 for d in w.dilations):
        return e("Gather", weight, c.seed.classes, axis=0)
    pointwise = all(k == 1 for k in w.kernel) and all(s == 1 for s in w.strides) and not w.padded
    g = c.g
    constant = pointwise and all(g.dims[a] == 1 for a in spatial)
    if not constant:
        g = c.full
    else:
        g = e.expand(g, y, [0, 1])
    one_cell = all(g.dims[a] == 1 for a in spatial)
    if all(s == 1 for s in w.strides) and not one_cell and _flippable(c, w):
        return _flipped(c, g, weight, x, w, group)
    target = x
    if constant:
        target = e.value(x.name)
        target.shape = (*x.dims[:2], *[1] * w.count)
    return place_windows(c, g, weight, target, w, group)


def _flippable(c: Context, w: Windows) -> bool:
    inside = all(b < span and a < span for b, a, span in zip(w.before, w.after, w.spans, strict=True))
    weight = c.x(1)
    static = all(isinstance(d, int) for d in weight.dims)
    return inside and static and c.node.input[1] not in c.wanted


def _flipped(c: Context, g: Value, weight: Value, x: Value, w: Windows, group: int) -> Value:
    """For stride 1 the adjoint is a convolution with the kernel turned round.

    Engines run it two to ten times faster than ConvTranspose where the convolution is grouped.
    The kernel is turned in the graph, so the file still holds the weight once.
    """
    e = c.e
    filters, channels = (int(d or 0) for d in weight.dims[:2])
    turned = e.flip(weight, list(range(2, weight.rank)))
    per_group = filters // group
    if group == 1:
        turned = e.transpose(turned, [1, 0, *range(2, weight.rank)])
    elif per_group > 1 or channels > 1:
        split = (group, per_group, channels, *w.kernel)
        turned = e.reshape(turned, turned, split)
        turned = e.transpose(turned, [0, 2, 1, *range(3, weight.rank + 1)])
        turned = e.reshape(turned, turned, (group * channels, per_group, *w.kernel))
    pads = [span - 1 - b for span, b in zip(w.spans, w.before, strict=True)]
    pads += [span - 1 - a for span, a in zip(w.spans, w.after, strict=True)]
    shape = (*x.dims[:2], *g.dims[2:]) if all(k == 1 for k in w.kernel) else x.shape
    return e("Conv", g, turned, group=group, dilations=w.dilations, pads=pads, kernel_shape=w.kernel, shape=shape)


def _conv_weight(c: Context, x: Value, g: Value, weight: Value, w: Windows, group: int) -> Value:
    """Correlation of the input with the output's gradient: strides and dilations change places."""
    e = c.e
    n = w.count
    _filters, channels, *_ = c.static(weight, list(range(weight.rank)), "the shape of a computed kernel")
    rest = list(range(3, 3 + n))
    if group == 1:
        images = e.transpose(x, [1, 0, *range(2, 2 + n)])
    else:
        split = e.reshape(x, x, (x.dims[0], group, channels, *x.dims[2:]), [0, 0, 1, *range(2, 2 + n)])
        split = e.transpose(split, [2, 1, 0, *rest])
        batch = x.dims[0]
        merged = group * batch if isinstance(batch, int) else None
        images = e.reshape(split, x, (channels, merged, *x.dims[2:]), [1, 0, *range(2, 2 + n)])
        if merged is None and any(not isinstance(d, int) for d in x.dims[2:]):
            c.fail("a computed, grouped kernel needs static spatial sizes")
    filters_from = e.transpose(g, [1, 0, *range(2, 2 + n)])
    found = e(
        "Conv",
        images,
        filters_from,
        group=group,
        strides=w.dilations,
        dilations=w.strides,
        pads=[*w.before, *w.after],
    )
    for i in range(n):
        found = e.slice(found, 2 + i, 0, w.kernel[i], length=w.kernel[i])
    return e.transpose(found, [1, 0, *range(2, 2 + n)])


def _conv_bias(c: Context) -> Value:
    y = c.y()
    axes = [0, *range(2, y.rank)]
    return c.e.squeeze(c.sum_over(c.g, y, axes), axes)


@rule("ConvTranspose")
def conv_transpose(c: Context) -> Gradients:
    x, weight, y = c.x(0), c.x(1), c.y()
    kernel = c.attr("kernel_shape") or c.static(weight, list(range(2, weight.rank)), "the kernel's size")
    n = len(kernel)
    w = _transposed_windows(c, x, y, kernel)
    group = c.attr("group", 1)

    def gather() -> Value:
        g = c.full
        # Output padding beyond a stride gives cells that no window touches.
        found = c.e(
            "Conv", g, weight, group=group, strides=w.strides, dilations=w.dilations, pads=[*w.before, *w.after]
        )
        for i in range(n):
            if found.dims[2 + i] != x.dims[2 + i]:
                found = c.e.slice(found, 2 + i, 0, c.e.dim(x, 2 + i), length=x.dims[2 + i])
        return found

    # The kernel's is the adjoint's weight gradient with the roles of input and output exchanged.
    return {0: gather, 1: lambda: _conv_weight(c, c.full, x, weight, w, group), 2: lambda: _conv_bias(c)}


def _transposed_windows(c: Context, x: Value, y: Value, kernel: list[int]) -> Windows:
    n = len(kernel)
    strides, dilations = c.attr("strides") or [1] * n, c.attr("dilations") or [1] * n
    extra = c.attr("output_padding") or [0] * n
    pads = c.attr("pads") or [0] * (2 * n)
    mode, wanted = c.attr("auto_pad", "NOTSET"), c.attr("output_shape")
    before, after = list(pads[:n]), list(pads[n:])
    if wanted or mode in ("SAME_UPPER", "SAME_LOWER"):
        ins = c.static(x, list(range(2, 2 + n)), "the input's spatial size (with output_shape or auto_pad)")
        outs = list(wanted[-n:]) if wanted else [i * s for i, s in zip(ins, strides, strict=True)]
        before, after = [], []
        for i in range(n):
            total = strides[i] * (ins[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - outs[i]
            small = total // 2
            before.append(small if mode == "SAME_UPPER" else total - small)
            after.append(total - before[-1])
        if min(before) < 0 or min(after) < 0:
            c.fail("its output_shape is larger than its windows reach")
    elif mode == "VALID":
        before, after = [0] * n, [0] * n
    return Windows(list(kernel), list(strides), list(dilations), before, after)
