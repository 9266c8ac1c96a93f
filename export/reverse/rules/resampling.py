"""Resize: its adjoint is a product with the transposed interpolation matrix of each axis."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from ...graph.folding import evaluate_node
from ..emitter import Value
from ..registry import Context, Gradients, rule

__all__: list[str] = []


@rule("Resize")
def resize(c: Context) -> Gradients:
    return {0: lambda: _back(c)}


def _back(c: Context) -> Value:
    x, y = c.x(), c.y()
    axes = [c.axis(a, x.rank) for a in c.attr("axes") or range(x.rank)]
    scales = c.constant(2)
    given = scales is not None and scales.size > 0
    if not given and not c.has(3):
        c.fail("its scales are computed at run time")
    crop = _crop(c, len(axes))
    common = _common_scale(c, x, axes)
    corners = c.attr("coordinate_transformation_mode") == "align_corners"
    antialias = bool(c.attr("antialias", 0))
    g = c.full
    for position, axis in enumerate(axes):
        window = None if crop is None else (crop[position], crop[len(axes) + position])
        if scales is not None and scales.size:
            scale = float(scales.reshape(-1)[position])
            if scale == 1.0 and window is None:
                continue
        elif common is not None:
            scale = common
        elif window is None and x.dims[axis] is not None and x.dims[axis] == y.dims[axis]:
            continue
        else:
            scale = None
        n, out = c.static(x, [axis], "the sizes of a resized axis")[0], c.static(y, [axis], "the resized axis")[0]
        whole = scale is None or abs(out - n * scale) < 1e-5
        if corners and antialias and not whole:
            c.fail("it aligns corners and smooths by a scale that gives no whole size, in which engines disagree")
        if corners or whole:
            # As a ratio of sizes it is exact: a cell that is hit exactly must not be missed by a rounding error.
            # Aligned corners are aligned by the sizes anyway.
            scale = None
        g = _along(c, g, axis, _matrix(c, n, out, scale, window))
    return g


def _crop(c: Context, count: int) -> np.ndarray | None:
    """Starts and ends of what tf_crop_and_resize takes, as fractions of the axes; None for the other modes."""
    if c.attr("coordinate_transformation_mode") != "tf_crop_and_resize":
        return None
    crop = c.constant(1)
    if crop is None or crop.size != 2 * count:
        c.fail("the part that it crops is computed at run time")
    return crop.reshape(-1).astype(np.float64)


def _common_scale(c: Context, x: Value, axes: list[int]) -> float | None:
    """The one scale of all axes where the aspect ratio is kept, else None."""
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch" or not c.has(3):
        return None
    sizes, dims = c.ints(3) or [], c.static(x, axes, "the sizes of a resized axis")
    ratios = [size / dim for size, dim in zip(sizes, dims, strict=True)]
    return min(ratios) if policy == "not_larger" else max(ratios)


def _along(c: Context, g: Value, axis: int, matrix: np.ndarray) -> Value:
    """matrix (n, out): its column j says which cells make output j."""
    e, (n, out) = c.e, matrix.shape
    factor = out // n
    repeats = out == n * factor and np.array_equal(matrix, np.repeat(np.eye(n), factor, axis=1))
    if repeats:
        dims = (*g.dims[:axis], n, factor, *g.dims[axis + 1 :])
        axes = [*range(axis), axis, axis, *range(axis + 1, g.rank)]
        return e.reduce("ReduceSum", e.reshape(g, g, dims, axes), [axis + 1], keepdims=False)
    weights = matrix.astype(g.dtype)
    if axis == g.rank - 1:
        shape = (*g.dims[:-1], n)
        return e("MatMul", g, e.constant(np.ascontiguousarray(weights.T)), shape=shape)
    if axis == g.rank - 2:
        shape = (*g.dims[:-2], n, g.dims[-1])
        return e("MatMul", e.constant(weights), g, shape=shape)
    order = [a for a in range(g.rank) if a != axis] + [axis]
    turned = e.transpose(g, order)
    made = e("MatMul", turned, e.constant(np.ascontiguousarray(weights.T)), shape=(*turned.dims[:-1], n))
    return e.transpose(made, [order.index(a) for a in range(g.rank)])


def _matrix(c: Context, n: int, out: int, scale: float | None, window: tuple[float, float] | None) -> np.ndarray:
    """The operator's own answer to unit impulses along one axis: float64 (n, out).

    ONNX's reference implementation is asked, so every mode and rounding rule is its own.
    """
    node = NodeProto()
    node.CopyFrom(c.node)
    kept = [a for a in c.node.attribute if a.name not in ("axes", "keep_aspect_ratio_policy", "extrapolation_value")]
    del node.attribute[:]
    node.attribute.extend(kept)
    by_scale = scale is not None
    crop = "crop" if window is not None else ""
    node.input[:] = ["x", crop, "scales"] if by_scale else ["x", crop, "", "sizes"]
    node.output[:] = ["y"]
    inputs: dict[str, np.ndarray] = {"x": np.eye(n, dtype=np.float64)}
    if window is not None:
        inputs["crop"] = np.array([0.0, window[0], 1.0, window[1]], np.float32)
    if by_scale:
        inputs["scales"] = np.array([1.0, scale], np.float32)
    else:
        inputs["sizes"] = np.array([n, out], np.int64)
    values = evaluate_node(node, inputs, c.graph.opset)
    if values is None or values[0].shape != (n, out):
        c.fail("its interpolation has no known matrix")
    return values[0]
