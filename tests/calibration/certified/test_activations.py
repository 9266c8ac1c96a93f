"""Bounds of activation functions are their own extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cfcam.calibration.certified import Bounds, IntervalNetwork
from cfcam.export.proof.session import Session
from onnx import ModelProto, helper, numpy_helper


def inside(clean: np.ndarray, radius: float, count: int, random: np.random.Generator) -> np.ndarray:
    """Images of the ball, half of them corners of it, float32; the first is the clean one."""
    noise = random.uniform(-1, 1, (count, *clean.shape))
    noise[::2] = np.sign(noise[::2])
    noise[0] = 0
    low, high = clean.astype(np.float64) - radius, clean.astype(np.float64) + radius
    x = (clean + radius * noise).astype(np.float32)
    x = np.where(x > high, np.nextafter(x, np.float32(-np.inf)), x)
    return np.where(x < low, np.nextafter(x, np.float32(np.inf)), x)


def excess(bounds: Bounds, values: Any) -> float:
    """How far values leave the bounds, the worst; not above 0 when all are inside."""
    return float(max((bounds.low - values).max(), (values - bounds.high).max()))


def one_node(operator: str, *constants: np.ndarray, shape=(1, 4, 6, 6), **attributes):
    weights = [numpy_helper.from_array(np.asarray(value), f"c{i}") for i, value in enumerate(constants)]
    names = ["x", *(w.name for w in weights)]
    node = helper.make_node(operator, names, ["y"], name="it", **attributes)
    x = helper.make_tensor_value_info("x", 1, ["N", *shape[1:]])
    y = helper.make_value_info("y", helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph([node], "one", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def check_tight(model: ModelProto, slack: float) -> None:
    random = np.random.default_rng(3)
    middle, half = random.normal(-0.5, 3, 50), random.exponential(1, 50)
    steps = np.linspace(-1, 1, 4001)[:, None]
    grid = np.clip((middle + half * steps).astype(np.float32), np.float32(middle - half), np.float32(middle + half))
    bounds = IntervalNetwork(model, "x", ["y"])(grid.min(0)[None], grid.max(0)[None])["y"]
    values = Session(model, threads=1).run({"x": grid})["y"]
    assert excess(bounds, values) <= 0
    assert np.abs(bounds.low[0] - values.min(0)).max() < slack
    assert np.abs(bounds.high[0] - values.max(0)).max() < slack


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Sigmoid", {}), ("Tanh", {}), ("Relu", {}), ("HardSwish", {}), ("LeakyRelu", {"alpha": 0.3}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ],
)  # fmt: skip
def test_a_function_is_bounded_by_its_own_extremes(operator, attributes):
    """Against a fine grid over each interval: the bounds hold it, and are not wider than rounding asks for."""
    check_tight(one_node(operator, shape=(1, 50), **attributes), 3e-5)


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_value_times_its_gate_is_bounded_by_its_own_extremes(gate, swapped):
    factors = ["g", "x"] if swapped else ["x", "g"]
    nodes = [helper.make_node(gate, ["x"], ["g"]), helper.make_node("Mul", factors, ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 50])],
                              [helper.make_tensor_value_info("y", 1, ["N", 50])])  # fmt: skip
    check_tight(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), 3e-5)
