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
    _e, x, y = c.e, c.x(), c.y()
    if c.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        c.fail("it crops while it resizes (tf_crop_and_resize)")
    axes = [c.axis(a, x.rank) for a in c.attr("axes") or range(x.rank)]
    scales = c.constant(2)
    if (scales is None or not scales.size) and not c.has(3):
        c.fail("its scales are computed at run time")
    g = c.full
    for position, axis in enumerate(axes):
        if scales is not None and scales.size:
            scale = float(scales.reshape(-1)[position])
            if scale == 1.0:
                continue
        elif x.dims[axis] is not None and x.dims[axis] == y.dims[axis]:
            continue
        else:
            scale = None
        n, out = c.static(x, [axis], "the sizes of a resized axis")[0], c.static(y, [axis], "the resized axis")[0]
        g = _along(c, g, axis, n, out, scale)
    return g


def _along(c: Context, g: Value, axis: int, n: int, out: int, scale: float | None) -> Value:
    e = c.e
    matrix = _matrix(c, n, out, scale)  # (n, out): column j says which cells make output j
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


def _matrix(c: Context, n: int, out: int, scale: float | None) -> np.ndarray:
    """The operator's own answer to unit impulses along one axis: float64 (n, out).

    ONNX's reference implementation is asked, so every mode and rounding rule is its own.
    """
    node = NodeProto()
    node.CopyFrom(c.node)
    kept = [a for a in c.node.attribute if a.name not in ("axes", "keep_aspect_ratio_policy")]
    del node.attribute[:]
    node.attribute.extend(kept)
    by_scale = scale is not None
    node.input[:] = ["x", "", "scales", ""] if by_scale else ["x", "", "", "sizes"]
    node.output[:] = ["y"]
    inputs: dict[str, np.ndarray] = {"x": np.eye(n, dtype=np.float64)}
    if by_scale:
        inputs["scales"] = np.array([1.0, scale], np.float32)
    else:
        inputs["sizes"] = np.array([n, out], np.int64)
    values = evaluate_node(node, inputs, c.graph.opset)
    if values is None or values[0].shape != (n, out):
        c.fail("its interpolation has no known matrix")
    return values[0]
