"""Vector-Jacobian products as models, by hand."""

from __future__ import annotations

import numpy as np
from cfcam.export.reverse import vjp
from onnx import helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def test_of_a_linear_map_and_a_square() -> None:
    """h = x W, y = h * h: with cotangent c, dh = 2 h c and dx = dh W^T."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Mul", ["h", "h"], ["y"])]
    w, x, c = normal(4, 3), normal(2, 4), normal(2, 3)
    source = make(nodes, {"w": w})
    before = source.SerializeToString()
    product = vjp(source, ["x", "h"], ["y"])
    assert source.SerializeToString() == before
    assert [i.name for i in product.graph.input] == ["x", "cotangent_y"]
    assert [o.name for o in product.graph.output] == ["gradient_x", "gradient_h"]
    dx, dh = run_ort(product, {"x": x, "cotangent_y": c})
    np.testing.assert_allclose(dh, 2 * (x @ w) * c, rtol=1e-5)
    np.testing.assert_allclose(dx, 2 * (x @ w) * c @ w.T, rtol=1e-4, atol=1e-5)


def test_several_outputs_have_a_cotangent_each() -> None:
    nodes = [helper.make_node("Sin", ["x"], ["s"]), helper.make_node("ReduceSum", ["x", "last"], ["t"], keepdims=0)]
    x, a, b = normal(2, 4), normal(2, 4), normal(2)
    product = vjp(make(nodes, {"last": np.array([1])}, outputs=("s", "t")), ["x"], ["s", "t"])
    (found,) = run_ort(product, {"x": x, "cotangent_s": a, "cotangent_t": b})
    np.testing.assert_allclose(found, a * np.cos(x) + b[:, None], rtol=1e-5)


def test_zeros_where_nothing_depends_and_full_shapes_where_a_gradient_is_constant() -> None:
    """The mean's gradient is the same in all cells and is written out for all; the sign has none."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0), helper.make_node("Sign", ["x"], ["y"])]
    source = make(nodes, outputs=("m", "y"))
    x = normal(2, 4)
    (flat,) = run_ort(vjp(source, ["x"], ["m"]), {"x": x, "cotangent_m": np.array(16, np.float32)})
    np.testing.assert_array_equal(flat, np.full((2, 4), 2.0))
    (none,) = run_ort(vjp(source, ["x"], ["y"]), {"x": x, "cotangent_y": x})
    np.testing.assert_array_equal(none, np.zeros((2, 4)))


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    """Somebody's value is called like the cotangent."""
    nodes = [helper.make_node("Sin", ["x"], ["cotangent_y"]), helper.make_node("Neg", ["cotangent_y"], ["y"])]
    product = vjp(make(nodes), ["x"], ["y"])
    x, c = normal(2, 4), normal(2, 4)
    (given,) = [i.name for i in product.graph.input if i.name != "x"]
    (found,) = run_ort(product, {"x": x, given: c})
    np.testing.assert_allclose(found, -c * np.cos(x), rtol=1e-5)
