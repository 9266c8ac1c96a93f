"""Any model in the one form that passes expect."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.graph import (
    normalise,
)
from cfcam.runtime.errors import ModelFileError
from onnx import helper, numpy_helper
from onnx_gradcheck import run_ort
from small_graphs import linear, make, normal


def test_normalised_form() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(normal(4))),
        helper.make_node("Constant", [], ["d"], value_float=2.0),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Add", ["same", "c"], ["a"]),
        helper.make_node("Dropout", ["a"], ["dropped"]),
        helper.make_node("Mul", ["dropped", "d"], ["y"]),
    ]
    source = make(nodes, opset=11, ir=6)
    model, notes = normalise(source)
    assert [n.op_type for n in model.graph.node] == ["Add", "Mul"]
    assert {"c", "d"} <= {t.name for t in model.graph.initializer}
    assert all(n.name for n in model.graph.node)
    assert notes == ["converted from opset 11 to 18"]
    x = normal(3, 4)
    np.testing.assert_array_equal(run_ort(source, {"x": x})[0], run_ort(model, {"x": x})[0])
    assert len(source.graph.node) == 6


@pytest.mark.parametrize("written", ["B i J, Z J -> i B Z", "c a j, b j", "bij,zj->ibz"])
def test_einsum_equations_are_in_small_letters(written: str) -> None:
    source = make(
        [helper.make_node("Einsum", ["x", "w"], ["y"], equation=written)], {"w": normal(5, 4)}, inputs={"x": [2, 3, 4]}
    )
    model, _ = normalise(source)
    (node,) = model.graph.node
    equation = helper.get_attribute_value(node.attribute[0]).decode()
    assert equation == equation.lower().replace(" ", "")
    x = normal(2, 3, 4)
    np.testing.assert_array_equal(run_ort(source, {"x": x})[0], run_ort(model, {"x": x})[0])


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 17])
def test_old_opsets_compute_the_same(opset: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "s", "s", "v"], ["n"]),
        helper.make_node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"], axis=1),
    ]
    constants = {"w": normal(5, 3, 3, 3), "s": normal(5), "v": np.abs(normal(5)) + 1}
    source = make(nodes, constants, inputs={"x": [2, 3, 8, 8]}, opset=opset, ir=7)
    model, _ = normalise(source)
    onnx.checker.check_model(model)
    assert model.opset_import[0].version == 18
    x = normal(2, 3, 8, 8)
    np.testing.assert_allclose(run_ort(source, {"x": x})[0], run_ort(model, {"x": x})[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Relu", ["nothing"], ["y"], name="n")], "'n' .Relu. reads 'nothing'"),
        (
            [helper.make_node("Relu", ["x"], ["y"], name="a"), helper.make_node("Tanh", ["x"], ["y"], name="b")],
            "'y' is made twice, again by node 'b'",
        ),
        ([helper.make_node("Relu", ["x"], ["z"])], "output 'y' is made by no node"),
    ],
)
def test_broken_graphs(nodes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        normalise(make(nodes))


def test_model_without_operator_set() -> None:
    model = linear()
    del model.opset_import[:]
    with pytest.raises(ExportError, match="operator set"):
        normalise(model)


def test_model_from_the_future() -> None:
    model = linear()
    model.opset_import[0].version = 99
    with pytest.raises(ExportError, match="opset 99 is newer"):
        normalise(model)
