"""The float64 evaluator: ONNX's own operator cases, PyTorch in float64, precision, and memory."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.proof.float64 import Evaluator
from cfcam.export.reverse import supported_operators
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

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


ZERO = numpy_helper.from_array(np.zeros(1, np.float32))


def model_of(nodes, inputs, outputs=("y",), initializers=None, kind=TensorProto.FLOAT, opset=18):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kind, shape) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(n, kind, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (initializers or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


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


def test_a_float32_model_computes_in_float64() -> None:
    """1 + 1e-12 vanishes in float32: weights, constants, casts and function bodies must all be converted."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["back", "one"], ["more"]),
        helper.make_node("Mul", ["more", "weight"], ["scaled"]),
        helper.make_node("Softsign", ["scaled"], ["soft"]),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["zero"], value=numpy_helper.from_array(np.zeros(1, np.float32))
        ),
        helper.make_node("Add", ["soft", "zero"], ["y"]),
    ]
    model = model_of(nodes, {"x": [1]}, initializers={"weight": np.array([2], np.float32), "shape": np.array([1])})
    x = np.array([1e-12])
    found = Evaluator(model).run({"x": x})["y"]
    assert found.dtype == np.float64
    want = 2 * (1 + x) / (1 + 2 * (1 + x))
    np.testing.assert_allclose(found, want, rtol=1e-15)
    assert found != 2 / 3
    assert Evaluator(model, np.float32).run({"x": x})["y"].dtype == np.float32
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT  # the model itself is left alone


def test_bodies_of_control_flow_are_converted_and_see_outer_values() -> None:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])
    then = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value_floats=[1e-12]), helper.make_node("Add", ["x", "c"], ["v"])],
        "then", [], [value],
    )  # fmt: skip
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["v"])], "else", [], [value])
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)]
    model = model_of(nodes, {"x": [1]}, initializers={"yes": np.array(True)})
    assert Evaluator(model).run({"x": np.array([1.0])})["y"] > 1


CONVOLUTIONS = {
    "plain": {"kernel": (3, 3), "group": 1, "strides": [1, 1], "dilations": [1, 1], "pads": [1, 1, 1, 1]},
    "one cell": {"kernel": (1, 1), "group": 1, "strides": [2, 2], "dilations": [1, 1], "pads": [0, 0, 0, 0]},
    "grouped": {"kernel": (3, 2), "group": 2, "strides": [2, 1], "dilations": [1, 2], "pads": [2, 1, 0, 1]},
    "depthwise": {"kernel": (3, 3), "group": 4, "strides": [2, 2], "dilations": [1, 1], "pads": [1, 0, 1, 2]},
    "volume": {"kernel": (2, 3, 2), "group": 2, "strides": [1, 2, 1], "dilations": [2, 1, 1], "pads": [1, 1, 0] * 2},
    "line": {"kernel": (3,), "group": 1, "strides": [2], "dilations": [1], "pads": [1, 1]},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_against_the_reference(name: str, transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from cfcam.export.proof.float64 import windows

    case = dict(CONVOLUTIONS[name])
    kernel, group = case.pop("kernel"), case["group"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, *(7, 9, 8)[: len(kernel)]))
    weight = rng.standard_normal((4, 4 // group, *kernel))
    bias = rng.standard_normal(4)
    operator = "ConvTranspose" if transposed else "Conv"
    nodes = [helper.make_node(operator, ["x", "w", "b"], ["y"], **case)]
    shapes = {"x": x.shape, "w": weight.shape, "b": bias.shape}
    model = model_of(nodes, shapes, kind=TensorProto.DOUBLE)
    feeds = {"x": x, "w": weight, "b": bias}
    monkeypatch.setattr(windows, "_SLAB", 600)  # several slabs
    found = Evaluator(model).run(feeds)["y"]
    torch = pytest.importorskip("torch")
    functions = torch.nn.functional
    count, pads = len(kernel), case["pads"]
    tensors = [torch.from_numpy(a) for a in (x, weight, bias)]
    if transposed:
        function = (functions.conv_transpose1d, functions.conv_transpose2d, functions.conv_transpose3d)[count - 1]
        want = function(*tensors, stride=case["strides"], dilation=case["dilations"], groups=group).numpy()
        cut = [slice(b, s - a) for b, a, s in zip(pads[:count], pads[count:], want.shape[2:], strict=True)]
        want = want[(slice(None), slice(None), *cut)]
    else:
        around = [side for b, a in reversed(list(zip(pads[:count], pads[count:], strict=True))) for side in (b, a)]
        function = (functions.conv1d, functions.conv2d, functions.conv3d)[count - 1]
        padded = functions.pad(tensors[0], around)
        want = function(padded, *tensors[1:], stride=case["strides"], dilation=case["dilations"], groups=group).numpy()
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)


def test_an_operator_that_nobody_has_is_named() -> None:
    model = model_of([helper.make_node("Sharpen", ["x"], ["y"], name="edge", domain="vendor")], {"x": [2, 3]})
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    with pytest.raises(
        UnsupportedOperatorError, match=r"vendor::Sharpen node 'edge' cannot be evaluated in float64.*\[2, 3\]"
    ):
        Evaluator(model).run({"x": np.zeros((2, 3))})


def test_straight_through_quantisation_clips_without_rounding() -> None:
    parameters = {
        "scale": np.float32(0.5),
        "zero": np.int8(3),
        "weight": np.array([[4, -2]], np.int8),
        "step": np.float32(0.25),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"]),
        helper.make_node("DequantizeLinear", ["t", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weight", "step"], ["w"]),
        helper.make_node("Mul", ["d", "w"], ["y"]),
    ]
    model = model_of(nodes, {"x": [2, 1]}, initializers={n: np.asarray(a) for n, a in parameters.items()})
    x = np.array([[0.3], [1000.0]])
    rounded = Evaluator(model).run({"x": x})["y"]
    np.testing.assert_allclose(rounded, [[0.5, -0.5 * 62]])
    smooth = Evaluator(model, straight_through=True).run({"x": x})["y"]
    np.testing.assert_allclose(smooth, [[0.3, -0.5 * 62.25]])


def test_values_are_freed() -> None:
    """A chain of 40 sums over 8 MB each must not hold 320 MB."""
    import tracemalloc

    nodes = [helper.make_node("Add", [f"v{i}", "one"], [f"v{i + 1}"]) for i in range(40)]
    nodes.append(helper.make_node("ReduceMax", ["v40"], ["y"], keepdims=0))
    model = model_of(nodes, {"v0": [1 << 20]}, initializers={"one": np.array([1], np.float32)})
    x = np.zeros(1 << 20)
    tracemalloc.start()
    assert Evaluator(model).run({"v0": x})["y"] == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.slow
def test_a_middle_layer_of_a_large_network_takes_seconds() -> None:
    """The five convolutions of a ResNet-50 block pair at 14 x 14, forward and backward sized."""
    rng = np.random.default_rng(0)
    shapes = [(256, 1024, 1, 1), (256, 256, 3, 3), (1024, 256, 1, 1)] * 3
    weights = {f"w{i}": rng.standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)}
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[s[2] // 2] * 4) for i, s in enumerate(shapes)
    ]
    model = model_of(nodes, {"x0": [2, 1024, 14, 14]}, outputs=(f"x{len(shapes)}",), initializers=weights)
    x = rng.standard_normal((2, 1024, 14, 14))
    evaluator = Evaluator(model)
    start = time.process_time()
    evaluator.run({"x0": x})
    assert time.process_time() - start < 10


@pytest.mark.parametrize("opset", [10, 13, 18])
def test_pads_that_cut(opset: int) -> None:
    """By hand: a row cut above and two added below, a column added before and one cut behind."""
    pads, x = [-1, 1, 2, -1], np.arange(12.0).reshape(3, 4)
    expected = [[7, 4, 5, 6], [7, 8, 9, 10], [7, 7, 7, 7], [7, 7, 7, 7]]
    if opset < 11:
        made = model_of([helper.make_node("Pad", ["x"], ["y"], pads=pads, value=7.0)], {"x": [3, 4]}, opset=opset)
    else:
        constants = {"pads": np.array(pads), "value": np.float32(7)}
        made = model_of(
            [helper.make_node("Pad", ["x", *constants], ["y"])], {"x": [3, 4]}, ["y"], constants, opset=opset
        )
    np.testing.assert_array_equal(Evaluator(made).run({"x": x})["y"], expected)
    if opset == 18:
        constants = {"pads": np.array([-1, 2]), "value": np.float32(7), "axes": np.array([-2])}
        made = model_of([helper.make_node("Pad", ["x", *constants], ["y"])], {"x": [3, 4]}, ["y"], constants)
        np.testing.assert_array_equal(Evaluator(made).run({"x": x})["y"], [*x[1:], [7] * 4, [7] * 4])


def test_digits() -> None:
    """Every computed value has float16's digits, whatever its size; what is given has its own."""
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", 1, [4])], [value("y", 1, [4])], [two])
    x = np.array([1 / 3, -1e-9 / 7, 70001.0, 0])
    (y,) = Evaluator(helper.make_model(graph), digits=11).run({"x": x}).values()
    scaled = np.array([1, 2.0**30, 2.0**-10, 1])  # into float16's range, by powers of two
    np.testing.assert_array_equal(y * scaled, (2 * x * scaled).astype(np.float16))
