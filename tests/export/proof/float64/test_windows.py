"""Sliding windows against PyTorch in float64, and the paddings that PyTorch lacks by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cfcam.export.proof.float64 import Evaluator, windows
from onnx import helper
from small_graphs import make

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
    case = dict(CONVOLUTIONS[name])
    kernel, group = case.pop("kernel"), case["group"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, *(7, 9, 8)[: len(kernel)]))
    weight = rng.standard_normal((4, 4 // group, *kernel))
    bias = rng.standard_normal(4)
    operator = "ConvTranspose" if transposed else "Conv"
    nodes = [helper.make_node(operator, ["x", "w", "b"], ["y"], **case)]
    shapes = {"x": x.shape, "w": weight.shape, "b": bias.shape}
    model = make(nodes, inputs=shapes)
    feeds = {"x": x, "w": weight, "b": bias}
    monkeypatch.setattr(windows, "_SLAB", 600)  # several slabs
    found = Evaluator(model).run(feeds)["y"]
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


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("count", [False, True])
def test_average_pools(ceil: bool, count: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 8))
    settings: dict[str, Any] = {"ceil_mode": int(ceil), "count_include_pad": int(count)}
    node = helper.make_node(
        "AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 3], pads=[1, 1, 1, 1], **settings
    )
    want = torch.nn.functional.avg_pool2d(torch.from_numpy(x), (3, 2), (2, 3), 1, ceil, count)
    np.testing.assert_allclose(windows.average_pool(node, x, 19), want.numpy(), rtol=1e-12)


@pytest.mark.parametrize("ceil", [False, True])
def test_max_pools(ceil: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 8)) - 5  # what is padded must not be the largest
    settings: dict[str, Any] = {"ceil_mode": int(ceil), "dilations": [2, 1]}
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], strides=[2, 2], pads=[1, 1, 1, 1], **settings)
    want = torch.nn.functional.max_pool2d(torch.from_numpy(x), (2, 3), 2, 1, (2, 1), ceil)
    np.testing.assert_array_equal(windows.max_pool(node, x), want.numpy())


def test_lp_pool_by_hand() -> None:
    node = helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[2], strides=[2], p=2)
    np.testing.assert_allclose(windows.lp_pool(node, np.array([[[3.0, -4, 5, 12]]])), [[[5, 13]]], rtol=1e-15)


@pytest.mark.parametrize(
    ("mode", "expected"), [("SAME_UPPER", [1, 5, 4]), ("SAME_LOWER", [0, 3, 7]), ("VALID", [1, 5])]
)
def test_automatic_padding_by_hand(mode: str, expected: list[float]) -> None:
    """0 1 2 3 4 in pairs, every second one: the cell that is lacking is added behind, or in front, or not at all."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=mode, strides=[2])
    x = np.arange(5.0).reshape(1, 1, 5)
    found = windows.convolve(node, x, np.ones((1, 1, 2)), None)
    np.testing.assert_array_equal(found.reshape(-1), expected)


def test_a_given_size_of_a_transposed_convolution_by_hand() -> None:
    """Three cells with a stride of 2 make 7 with a kernel of 3; of 6, the larger half is cut in front."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], output_shape=[6])
    found = windows.convolve_transposed(node, np.array([[[1.0, 2, 3]]]), np.array([[[1.0, 10, 100]]]), None)
    np.testing.assert_array_equal(found.reshape(-1), [10, 102, 20, 203, 30, 300])
