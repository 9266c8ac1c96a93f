"""Conv and ConvTranspose, in one to three dimensions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(2)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


CONVS = {
    "plain": ((2, 3, 6, 5), (4, 3, 3, 3), {}),
    "padded": ((2, 3, 6, 5), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "uneven pads": ((2, 3, 6, 5), (4, 3, 3, 2), {"pads": [0, 1, 2, 0]}),
    "strided": ((2, 3, 7, 6), (4, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "stride leaves a rest": ((1, 2, 8, 9), (3, 2, 3, 2), {"strides": [3, 2]}),
    "dilated": ((1, 2, 8, 7), (3, 2, 3, 2), {"dilations": [2, 3], "pads": [1, 0, 1, 2]}),
    "dilated and strided": ((1, 2, 9, 8), (3, 2, 3, 2), {"dilations": [2, 3], "strides": [2, 2]}),
    "grouped": ((2, 4, 5, 5), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "grouped, strided": ((2, 4, 6, 5), (6, 2, 3, 3), {"group": 2, "strides": [2, 2]}),
    "depthwise": ((2, 4, 5, 5), (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "depthwise, strided": ((2, 4, 6, 6), (4, 1, 3, 3), {"group": 4, "pads": [0, 0, 1, 1], "strides": [2, 2]}),
    "depth multiplier": ((1, 3, 5, 5), (6, 1, 3, 3), {"group": 3}),
    "pointwise": ((2, 3, 4, 4), (5, 3, 1, 1), {}),
    "pointwise, strided": ((2, 3, 4, 5), (5, 3, 1, 1), {"strides": [2, 2]}),
    "padding wider than the kernel": ((1, 2, 4, 4), (3, 2, 2, 2), {"pads": [2, 2, 3, 2]}),
    "1-D": ((2, 3, 7), (4, 3, 3), {"pads": [1, 1], "strides": [2]}),
    "3-D": ((1, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"pads": [0, 1, 0, 1, 1, 1], "strides": [1, 2, 1]}),
    "same upper": ((1, 2, 7, 6), (3, 2, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 2, 7, 6), (3, 2, 2, 3), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "valid": ((1, 2, 7, 6), (3, 2, 2, 3), {"auto_pad": "VALID"}),
}


def _torch_conv(attributes):
    if "auto_pad" in attributes:
        return None
    pads = attributes.get("pads")

    def reference(x, w, b=None):
        n = x.ndim - 2
        if pads:
            x = F.pad(x, [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])])
        call = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[n]
        stride, dilation = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
        return call(x, w, b, stride, 0, dilation, attributes.get("group", 1))

    return reference


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("computed", [False, True], ids=["weight", "computed"])
def test_conv(name: str, computed: bool) -> None:
    x, w, attributes = CONVS[name]
    weights = {"w": normal(*w), "b": normal(w[0])}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    reference = _torch_conv(attributes)
    # The reference evaluator's ConvTranspose fails for several filters per group.
    able = name != "grouped, strided"
    if computed:
        prove(Case([node], {"x": normal(*x), **weights}, torch=reference, in_reference=able))
    else:
        fixed = [torch.tensor(v) for v in weights.values()]
        wrapped = (lambda v: reference(v, *fixed)) if reference is not None else None
        prove(Case([node], {"x": normal(*x)}, weights, torch=wrapped, in_reference=able))


@pytest.mark.parametrize(
    "name", ["plain", "uneven pads", "strided", "stride leaves a rest", "dilated", "grouped", "depthwise"]
)
def test_conv_of_unknown_size(name: str) -> None:
    x, w, attributes = CONVS[name]
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    prove(Case([node], {"x": normal(*x)}, {"w": normal(*w)}, symbolic={"x": ["N", x[1], "H", "W"]}))


TRANSPOSED = {
    "plain": ((2, 3, 4, 4), (3, 4, 3, 3), {}),
    "strided": ((2, 3, 4, 3), (3, 2, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "grouped": ((1, 4, 3, 3), (4, 2, 2, 2), {"group": 2, "strides": [2, 2]}),
    "dilated": ((1, 2, 4, 4), (2, 3, 2, 2), {"dilations": [2, 2], "pads": [0, 1, 1, 0]}),
    "1-D": ((2, 3, 5), (3, 2, 4), {"strides": [2], "pads": [1, 1]}),
    "3-D": ((1, 2, 3, 2, 3), (2, 2, 2, 2, 2), {"strides": [2, 1, 1]}),
}


def _torch_transposed(attributes):
    def reference(x, w, b):
        n = x.ndim - 2
        call = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[n]
        pads = attributes.get("pads", [0] * 2 * n)
        settings = {"stride": attributes.get("strides", 1), "dilation": attributes.get("dilations", 1)}
        y = call(x, w, b, groups=attributes.get("group", 1), output_padding=0, **settings)
        extra = attributes.get("output_padding", [0] * n)
        # Padding cuts the full result, output padding cuts less at the far end.
        for i in range(n):
            y = y.narrow(2 + i, pads[i], y.shape[2 + i] - pads[i] - pads[n + i] + extra[i])
        return y

    return reference


@pytest.mark.parametrize("name", TRANSPOSED)
@pytest.mark.parametrize("computed", [False, True], ids=["weight", "computed"])
def test_conv_transpose(name: str, computed: bool) -> None:
    x, w, attributes = TRANSPOSED[name]
    weights = {"w": normal(*w), "b": normal(w[1] * attributes.get("group", 1))}
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)
    reference = _torch_transposed(attributes)
    # The reference evaluator knows neither groups nor one and three dimensions here.
    plain = len(x) == 4 and "group" not in attributes
    if computed:
        prove(Case([node], {"x": normal(*x), **weights}, torch=reference, in_reference=plain))
    else:
        fixed = [torch.tensor(v) for v in weights.values()]
        case = Case([node], {"x": normal(*x)}, weights, torch=lambda v: reference(v, *fixed), in_reference=plain)
        prove(case)
