"""Operators in float64: ONNX's own cases, PyTorch, and what is left to the reference evaluator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cfcam.export.proof.float64 import Evaluator
from cfcam.export.proof.float64.operators import find_operator
from cfcam.export.reverse import supported_operators
from onnx import TensorProto, helper
from onnx.backend.test.case.node import collect_testcases
from small_graphs import make

# What the cases hold that is not a number in float64.
EXCUSED = {
    "dequantizelinear_e4m3fn_float16": "the scale's own rounding is the point of the case",
    "cast_FLOAT_to_": "what it tests is the rounding",
    "cast_DOUBLE_to_FLOAT16": "the same",
    "castlike_": "the same",
    "dropout_random": "random numbers",
    "training_dropout": "random numbers",
    "averagepool_2d_ceil_last_window_starts_on_pad": "its numbers are printed to four digits",
    "resize_downsample_scales_linear_align_corners": "ONNX Runtime places cells by the rounded size, and so do we",
}


#: Random or of a type that the graphs between a layer and a score never have.
OPERATORS = {*supported_operators(), "ArgMax", "Less", "Greater", "Equal", "And", "Or", "Not", "ConstantOfShape"}


@pytest.mark.slow
def test_onnx_operator_cases() -> None:
    """Every case of an operator that can lie behind a layer: the expected outputs, to float32's precision."""
    tried, wrong, lost = 0, [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)  # type: ignore[arg-type]
    for case in cases:
        assert case.model is not None
        assert case.data_sets is not None
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in OPERATORS or nodes[0].domain:
            continue
        if any(part in case.name for part in EXCUSED):
            continue
        inputs, outputs = case.data_sets[0]
        arrays = [a for a in (*inputs, *outputs) if isinstance(a, np.ndarray)]
        if len(arrays) != len(inputs) + len(outputs) or any(a.dtype.kind not in "fiub" for a in arrays):
            continue
        names = [i.name for i in case.model.graph.input]
        found = Evaluator(case.model).run(dict(zip(names, inputs, strict=True)))
        tried += 1
        for value, want in zip(found.values(), outputs, strict=True):
            if want.dtype.kind == "f" and value.dtype != np.float64:
                lost.append((case.name, value.dtype))
            limit = 3e-3 if want.dtype == np.float16 else 2e-5
            if value.shape != want.shape or not np.allclose(value, want, rtol=limit, atol=limit, equal_nan=True):
                wrong.append(case.name)
    print(f"{tried} cases tried")
    assert tried > 600
    assert not lost
    assert not wrong


@pytest.mark.parametrize("opset", [10, 13, 18])
def test_pads_that_cut(opset: int) -> None:
    """By hand: a row cut above and two added below, a column added before and one cut behind."""
    pads, x = [-1, 1, 2, -1], np.arange(12.0).reshape(3, 4)
    expected = [[7, 4, 5, 6], [7, 8, 9, 10], [7, 7, 7, 7], [7, 7, 7, 7]]
    if opset < 11:
        made = make([helper.make_node("Pad", ["x"], ["y"], pads=pads, value=7.0)], inputs={"x": [3, 4]}, opset=opset)
    else:
        constants = {"pads": np.array(pads), "value": np.float32(7)}
        made = make([helper.make_node("Pad", ["x", *constants], ["y"])], constants, inputs={"x": [3, 4]}, opset=opset)
    np.testing.assert_array_equal(Evaluator(made).run({"x": x})["y"], expected)
    if opset == 18:
        constants = {"pads": np.array([-1, 2]), "value": np.float32(7), "axes": np.array([-2])}
        made = make([helper.make_node("Pad", ["x", *constants], ["y"])], constants, inputs={"x": [3, 4]})
        np.testing.assert_array_equal(Evaluator(made).run({"x": x})["y"], [*x[1:], [7] * 4, [7] * 4])


F = torch.nn.functional
AGAINST_PYTORCH: dict[str, tuple[dict[str, Any], tuple[tuple[int, ...], ...], int, Callable[..., torch.Tensor]]] = {
    "Gelu": ({"approximate": "tanh"}, (), 20, lambda x: F.gelu(x, approximate="tanh")),
    "Mish": ({}, (), 18, F.mish),
    "HardSwish": ({}, (), 18, F.hardswish),
    "Swish": ({"alpha": 1.0}, (), 24, F.silu),
    "LayerNormalization": ({"axis": 1}, ((4, 3, 3),), 18, lambda x, w: F.layer_norm(x, (4, 3, 3), w)),
    "GroupNormalization": ({"num_groups": 2}, ((4,), (4,)), 21, lambda x, w, b: F.group_norm(x, 2, w, b)),
    "InstanceNormalization": ({}, ((4,), (4,)), 18, lambda x, w, b: F.instance_norm(x, weight=w, bias=b)),
    "LRN": ({"size": 3, "alpha": 0.5, "bias": 2.0}, (), 18, lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0)),
}


@pytest.mark.parametrize("name", AGAINST_PYTORCH)
def test_as_pytorch_computes_it_in_float64(name: str) -> None:
    attributes, shapes, opset, function = AGAINST_PYTORCH[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((2, 4, 3, 3), *shapes)]
    node = helper.make_node(name, [f"x{i}" for i in range(len(arrays))], ["y"], **attributes)
    operator = find_operator(node)
    assert operator is not None
    found = operator(node, arrays, opset)
    found = found[0] if isinstance(found, tuple) else found
    want = function(*(torch.from_numpy(array) for array in arrays)).numpy()
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)


def test_one_scale_for_each_group_before_opset_21() -> None:
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    operator = find_operator(node)
    assert operator is not None
    x = np.random.default_rng(0).standard_normal((2, 4, 5))
    found = operator(node, [x, np.array([2.0, 3.0]), np.array([0.0, 1.0])], 18)
    scale, shift = (torch.tensor(values, dtype=torch.float64) for values in ([2, 2, 3, 3], [0, 0, 1, 1]))
    np.testing.assert_allclose(found, F.group_norm(torch.from_numpy(x), 2, scale, shift).numpy(), rtol=1e-12)


def test_what_is_left_to_the_reference_evaluator() -> None:
    assert find_operator(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")) is None
    assert find_operator(helper.make_node("Softsign", ["x"], ["y"])) is None
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    with_indices = helper.make_node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2])
    to_half = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)
    whole = helper.make_node("Div", ["x", "x"], ["y"])
    for node, inputs in ((with_indices, [x]), (to_half, [x]), (whole, [x.astype(np.int64)] * 2)):
        operator = find_operator(node)
        assert operator is not None
        assert operator(node, inputs, 18) is NotImplemented
