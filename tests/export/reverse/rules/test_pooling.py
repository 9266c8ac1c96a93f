"""Pooling, over windows and over the whole grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(3)


def distinct(*shape: int) -> np.ndarray:
    """Values that differ by at least 0.01 from each other."""
    count = int(np.prod(shape))
    return (RNG.permutation(count).reshape(shape) - count / 2 + 0.25) * (3.0 / count)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 6), (1, 2, 3, 2, 3)])
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global(op: str, shape) -> None:
    axes = tuple(range(2, len(shape)))
    reference = {"GlobalAveragePool": torch.mean, "GlobalMaxPool": torch.amax}[op]
    node = helper.make_node(op, ["x"], ["y"])
    case = Case([node], {"x": distinct(*shape)}, torch=lambda x: reference(x, axes, keepdim=True))
    # The reference evaluator's GlobalMaxPool gives a wrong rank outside two dimensions.
    case.in_reference = op == "GlobalAveragePool" or len(shape) == 4
    prove(case)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_of_unknown_size(op: str) -> None:
    node = helper.make_node(op, ["x"], ["y"])
    prove(Case([node], {"x": distinct(2, 3, 4, 5)}, symbolic={"x": ["N", 3, "H", "W"]}))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_lp(p: int) -> None:
    node = helper.make_node("GlobalLpPool", ["x"], ["y"], p=p)
    case = Case(
        [node], {"x": distinct(2, 3, 4, 3)}, torch=lambda x: x.abs().pow(p).sum((2, 3), keepdim=True) ** (1 / p)
    )
    case.in_reference = False
    prove(case)


def test_tied_maxima_go_to_the_first_cell() -> None:
    x = np.zeros((1, 2, 4, 4))
    x[0, 1, 2, 1:3] = 1.0
    node = helper.make_node("GlobalMaxPool", ["x"], ["y"])
    case = Case([node], {"x": x}, torch=lambda x: F.adaptive_max_pool2d(x, 1), tolerance=np.inf)
    prove(case)


MAX_POOLS = {
    "side by side": ((2, 3, 6, 4), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "leaves a rest": ((1, 2, 7, 5), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "overlapping": ((2, 3, 7, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "every cell": ((2, 2, 5, 6), {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}),
    "gaps": ((1, 2, 8, 7), {"kernel_shape": [2, 2], "strides": [3, 3]}),
    "ceil": ((1, 2, 6, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "dilated": ((1, 2, 8, 7), {"kernel_shape": [2, 3], "strides": [1, 2], "dilations": [3, 2]}),
    "one row": ((1, 2, 4, 7), {"kernel_shape": [1, 3], "strides": [1, 2]}),
    "whole grid": ((2, 3, 4, 5), {"kernel_shape": [4, 5]}),
    "1-D": ((2, 3, 9), {"kernel_shape": [3], "strides": [2]}),
    "3-D": ((1, 2, 4, 5, 4), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [0, 1, 0, 0, 1, 0]}),
}


def _torch_max(attributes):
    n = len(attributes["kernel_shape"])
    call = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[n]
    return lambda x: call(
        x,
        attributes["kernel_shape"],
        attributes.get("strides", [1] * n),
        attributes.get("pads", [0] * n)[:n],
        attributes.get("dilations", [1] * n),
        bool(attributes.get("ceil_mode", 0)),
    )


@pytest.mark.parametrize("name", MAX_POOLS)
def test_max_pool(name: str) -> None:
    shape, attributes = MAX_POOLS[name]
    node = helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    prove(Case([node], {"x": distinct(*shape)}, torch=_torch_max(attributes)))


@pytest.mark.parametrize("name", ["side by side", "overlapping", "every cell", "ceil", "dilated", "whole grid", "3-D"])
def test_max_pool_ties_as_in_pytorch(name: str) -> None:
    """Rectified values tie at zero all the time; PyTorch takes the first cell in reading order."""
    shape, attributes = MAX_POOLS[name]
    node = helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    x = RNG.integers(0, 3, shape).astype(np.float64)
    prove(Case([node], {"x": x}, torch=_torch_max(attributes), tolerance=np.inf))


@pytest.mark.parametrize("name", ["side by side", "overlapping", "every cell", "dilated"])
def test_max_pool_of_unknown_size(name: str) -> None:
    shape, attributes = MAX_POOLS[name]
    node = helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    prove(
        Case([node], {"x": distinct(*shape)}, symbolic={"x": ["N", shape[1], "H", "W"]}, torch=_torch_max(attributes))
    )


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_same_padding(op: str, mode: str) -> None:
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 1], auto_pad=mode)
    case = Case([node], {"x": distinct(1, 2, 6, 5)})
    if op == "MaxPool":
        # Height needs one row, width one column more. The reference evaluator pads the wrong side here.
        pads = (0, 1, 0, 1) if mode == "SAME_UPPER" else (1, 0, 1, 0)
        case.torch = lambda x: F.max_pool2d(F.pad(x, pads, value=-9.0), (3, 2), (2, 1))
        case.in_reference = False
    prove(case)


AVERAGE_POOLS = {
    "side by side": ((2, 3, 6, 4), {"kernel_shape": [2, 2], "strides": [2, 2]}, None),
    "leaves a rest": ((1, 2, 7, 5), {"kernel_shape": [2, 2], "strides": [2, 2]}, None),
    "overlapping": ((2, 3, 7, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, None),
    "padding counts": (
        (2, 3, 7, 7),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        None,
    ),
    "ceil": ((1, 2, 6, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, None),
    "ceil, padding counts": (
        (1, 2, 6, 8),
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1},
        None,
    ),
    "whole grid": ((2, 3, 4, 5), {"kernel_shape": [4, 5]}, None),
    "1-D": ((2, 3, 9), {"kernel_shape": [3], "strides": [2]}, None),
    "3-D": ((1, 2, 4, 5, 4), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [0, 1, 0, 0, 1, 0]}, None),
}


def _torch_average(attributes):
    n = len(attributes["kernel_shape"])
    call = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[n]
    return lambda x: call(
        x,
        attributes["kernel_shape"],
        attributes.get("strides", [1] * n),
        attributes.get("pads", [0] * n)[:n],
        bool(attributes.get("ceil_mode", 0)),
        bool(attributes.get("count_include_pad", 0)),
    )


@pytest.mark.parametrize("name", AVERAGE_POOLS)
def test_average_pool(name: str) -> None:
    shape, attributes, _ = AVERAGE_POOLS[name]
    node = helper.make_node("AveragePool", ["x"], ["y"], **attributes)
    prove(Case([node], {"x": distinct(*shape)}, torch=_torch_average(attributes), opset=19))


def test_average_pool_dilated() -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 3], pads=[1, 0, 1, 2])
    prove(Case([node], {"x": distinct(1, 2, 7, 7)}, opset=19))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(p: int) -> None:
    node = helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 1], p=p)

    def reference(x):
        return (F.avg_pool2d(x.abs() ** p, (3, 2), (2, 1)) * 6) ** (1 / p)

    prove(Case([node], {"x": distinct(1, 2, 7, 5)}, torch=reference))
