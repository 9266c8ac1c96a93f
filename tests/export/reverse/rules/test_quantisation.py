"""Pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.reverse import vjp
from onnx import helper
from onnx_gradcheck import Case, build, prove

RNG = np.random.default_rng(5)


def _pair(axis: int | None = None):
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
    ]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_quantisation_passes_inside_the_range(kind: str) -> None:
    zero = {"int8": 3, "uint8": 120}[kind]
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}[kind]
    constants = {"s": np.array(0.02, np.float32), "z": np.array(zero, kind)}
    x = RNG.uniform(-4, 4, (4, 8))

    def reference(x):
        return torch.fake_quantize_per_tensor_affine(x.float(), float(constants["s"]), zero, low, high)

    case = Case(_pair(), {"x": x}, constants, torch=reference, in_reference=False)
    prove(case)


def test_quantisation_per_channel() -> None:
    constants = {"s": np.array([0.01, 0.02, 0.05], np.float32), "z": np.zeros(3, np.int8)}
    x = RNG.uniform(-4, 4, (2, 3, 4))

    def reference(x):
        scale, zero = torch.tensor(constants["s"]), torch.zeros(3, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(x.float(), scale, zero, 1, -128, 127)

    prove(Case(_pair(1), {"x": x}, constants, torch=reference, in_reference=False))


def test_quantised_weights_are_read_by_both_directions() -> None:
    nodes = [
        *_pair()[:1],
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["y"], pads=[1, 1, 1, 1]),
    ]
    constants = {
        "s": np.array(0.02, np.float32),
        "z": np.array(0, np.int8),
        "w": RNG.integers(-127, 127, (3, 2, 3, 3)).astype(np.int8),
        "ws": np.array([0.01, 0.02, 0.03], np.float32),
        "wz": np.zeros(3, np.int8),
    }
    weight = torch.tensor(constants["w"].astype(np.float32) * constants["ws"].reshape(3, 1, 1, 1))

    def reference(x):
        return F.conv2d(torch.fake_quantize_per_tensor_affine(x.float(), 0.02, 0, -128, 127), weight, padding=1)

    case = Case(nodes, {"x": RNG.uniform(-3, 3, (1, 2, 5, 5))}, constants, torch=reference, in_reference=False)
    product = prove(case)
    # The backward pass needs no activations here, and one dequantised weight.
    assert [list(n.input) for n in product.graph.node if n.op_type == "DequantizeLinear"] == [["w", "ws", "wz"]]


def test_pooling_of_quantised_values() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    constants = {"s": np.array(0.02, np.float32), "z": np.array(0, np.int8)}

    def reference(x):
        return F.max_pool2d(torch.fake_quantize_per_tensor_affine(x.float(), 0.02, 0, -128, 127), 3, 2)

    case = Case(nodes, {"x": RNG.uniform(-2, 2, (1, 2, 7, 7))}, constants, torch=reference, in_reference=False)
    prove(case)


@pytest.mark.parametrize(
    ("scale", "zero", "attributes", "why"),
    [
        ("computed", np.array(0, np.int8), {}, "its scale depends on the layer"),
        (np.ones((2, 4), np.float32), np.zeros((2, 4), np.int8), {"axis": 1, "block_size": 2}, "quantised in blocks"),
    ],
)
def test_forms_without_a_straight_way_are_refused(scale, zero: np.ndarray, attributes: dict, why: str) -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["s"], keepdims=0)] if isinstance(scale, str) else []
    constants = {"z": zero} if nodes else {"s": scale, "z": zero}
    pair = [helper.make_node(n.op_type, n.input, n.output, **attributes) for n in _pair()]
    with pytest.raises(UnsupportedOperatorError, match=why):
        vjp(
            build(Case([*nodes, *pair], {"x": RNG.uniform(-1, 1, (2, 8))}, constants, opset=21), np.float32),
            ["x"],
            ["y"],
        )
