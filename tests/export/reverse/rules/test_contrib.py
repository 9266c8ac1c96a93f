"""Operators that ONNX Runtime's optimiser writes, one by one: against PyTorch, and against ONNX Runtime's own kernels.

Those that have no kernel on the CPU are compared with their documented formula only.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.reverse import vjp
from fused_operators import microsoft, prove_fused, prove_without_a_kernel
from onnx import helper
from onnx_gradcheck import Case, build, prove

RNG = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


FUSED = {
    "Gelu": (microsoft("Gelu", ["x"]), {"x": (2, 5)}, F.gelu),
    "BiasGelu": (microsoft("BiasGelu", ["x", "b"]), {"x": (2, 5), "b": (5,)}, lambda x, b: F.gelu(x + b)),
    "FastGelu": (microsoft("FastGelu", ["x"]), {"x": (2, 5)}, lambda x: F.gelu(x, approximate="tanh")),
    "QuickGelu": (microsoft("QuickGelu", ["x"], alpha=1.5), {"x": (2, 5)}, lambda x: x * torch.sigmoid(1.5 * x)),
    "FusedMatMul": (
        microsoft("FusedMatMul", ["a", "b"], transA=1, transB=1, alpha=0.5),
        {"a": (2, 4, 3), "b": (2, 5, 4)},
        lambda a, b: 0.5 * a.mT @ b.mT,
    ),
    "FusedConv": (
        microsoft("FusedConv", ["x", "w", "b"], activation="LeakyRelu", activation_params=[0.25], pads=[1, 1, 1, 1]),
        {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3), "b": (3,)},
        lambda x, w, b: F.leaky_relu(F.conv2d(x, w, b, padding=1), 0.25),
    ),
    "FusedConv, with a sum": (
        microsoft("FusedConv", ["x", "w", "b", "z"], activation="Relu"),
        {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3), "b": (3,), "z": (1, 3, 2, 2)},
        lambda x, w, b, z: F.relu(F.conv2d(x, w, b) + z),
    ),
    "FusedConv, clipped": (
        microsoft("FusedConv", ["x", "w"], activation="Clip", activation_params=[-0.5, 0.75], strides=[2, 2]),
        {"x": (1, 2, 5, 5), "w": (3, 2, 3, 3)},
        lambda x, w: F.hardtanh(F.conv2d(x, w, stride=2), -0.5, 0.75),
    ),
    "FusedConv, hard sigmoid": (
        microsoft("FusedConv", ["x", "w"], activation="HardSigmoid", activation_params=[0.25, 0.4]),
        {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3)},
        lambda x, w: F.hardtanh(0.25 * F.conv2d(x, w) + 0.4, 0, 1),
    ),
    "FusedGemm, leaky": (
        microsoft("FusedGemm", ["a", "b"], activation="LeakyRelu", activation_alpha=0.2, alpha=0.5),
        {"a": (3, 4), "b": (4, 5)},
        lambda a, b: F.leaky_relu(0.5 * a @ b, 0.2),
    ),
    "FusedMatMul, first axis moved": (
        microsoft("FusedMatMul", ["a", "b"], transBatchA=1, transBatchB=1, transB=1),
        {"a": (3, 2, 2, 4), "b": (5, 2, 2, 4)},
        lambda a, b: a.permute(1, 2, 0, 3) @ b.permute(1, 2, 0, 3).mT,
    ),
    "FusedMatMul, moved and turned": (
        microsoft("FusedMatMul", ["a", "b"], transBatchA=1, transA=1),
        {"a": (4, 2, 3), "b": (2, 4, 5)},
        lambda a, b: a.permute(1, 0, 2).mT @ b,
    ),
    "TransposeMatMul": (
        microsoft("TransposeMatMul", ["a", "b"], transB=1, alpha=2.0),
        {"a": (2, 3, 4), "b": (2, 5, 4)},
        lambda a, b: 2 * a @ b.mT,
    ),
    "FastGelu, with bias": (
        microsoft("FastGelu", ["x", "b"]),
        {"x": (2, 5), "b": (5,)},
        lambda x, b: F.gelu(x + b, approximate="tanh"),
    ),
    "SkipSimplifiedLayerNormalization": (
        microsoft("SkipSimplifiedLayerNormalization", ["x", "r", "s"], epsilon=1e-5),
        {"x": (2, 3, 4), "r": (2, 3, 4), "s": (4,)},
        lambda x, r, s: F.rms_norm(x + r, (4,), s, 1e-5),
    ),
    "SkipLayerNormalization, with bias": (
        microsoft("SkipLayerNormalization", ["x", "r", "s", "b", "c"], epsilon=1e-5),
        {"x": (2, 3, 4), "r": (2, 3, 4), "s": (4,), "b": (4,), "c": (4,)},
        lambda x, r, s, b, c: F.layer_norm(x + r + c, (4,), s, b),
    ),
    "FusedGemm": (
        microsoft("FusedGemm", ["a", "b", "c"], activation="Tanh", transB=1),
        {"a": (3, 4), "b": (5, 4), "c": (5,)},
        lambda a, b, c: torch.tanh(a @ b.T + c),
    ),
    "SkipLayerNormalization": (
        microsoft("SkipLayerNormalization", ["x", "r", "s", "b"], epsilon=1e-5),
        {"x": (2, 3, 4), "r": (2, 3, 4), "s": (4,), "b": (4,)},
        lambda x, r, s, b: F.layer_norm(x + r, (4,), s, b),
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_operator(name: str) -> None:
    node, shapes, reference = FUSED[name]
    prove_fused(node, {n: normal(*s) for n, s in shapes.items()}, reference)


def test_sum_that_the_normalisation_also_gives_out() -> None:
    node = helper.make_node(
        "SkipLayerNormalization", ["x", "r", "s", "b"], ["n", "", "", "t"], domain="com.microsoft", epsilon=1e-5
    )
    both = helper.make_node("Add", ["n", "t"], ["y"])
    shapes = {"x": (2, 3, 4), "r": (2, 3, 4), "s": (4,), "b": (4,)}
    case = Case([node, both], {n: normal(*s) for n, s in shapes.items()}, domains=["com.microsoft"], in_reference=False)
    case.torch = lambda x, r, s, b: F.layer_norm(x + r, (4,), s, b) + x + r
    prove(case)


def _channels_last(value: torch.Tensor) -> torch.Tensor:
    return value.permute(0, 2, 3, 1)


def _channels_first(value: torch.Tensor) -> torch.Tensor:
    return value.permute(0, 3, 1, 2)


WITHOUT_A_KERNEL = {
    "NhwcConv": (
        microsoft("NhwcConv", ["x", "w", "b"], pads=[1, 1, 1, 1], strides=[2, 2]),
        {"x": (1, 5, 4, 2), "w": (3, 3, 3, 2), "b": (3,)},
        lambda x, w, b: _channels_last(F.conv2d(_channels_first(x), _channels_first(w), b, 2, 1)),
    ),
    "NhwcFusedConv": (
        microsoft("NhwcFusedConv", ["x", "w", "b", "z"], activation="Relu"),
        {"x": (1, 5, 4, 2), "w": (3, 2, 3, 3), "b": (3,), "z": (1, 3, 2, 3)},
        lambda x, w, b, z: F.relu(_channels_last(F.conv2d(_channels_first(x), w, b)) + z),
    ),
    "NhwcMaxPool": (
        microsoft("NhwcMaxPool", ["x"], kernel_shape=[2, 2], strides=[1, 2]),
        {"x": (1, 5, 4, 2)},
        lambda x: _channels_last(F.max_pool2d(_channels_first(x), 2, (1, 2))),
    ),
    "GroupNorm": (
        microsoft("GroupNorm", ["x", "s", "b"], groups=2, activation=1),
        {"x": (2, 3, 2, 4), "s": (4,), "b": (4,)},
        lambda x, s, b: F.silu(_channels_last(F.group_norm(_channels_first(x), 2, s, b))),
    ),
    "GroupNorm, channels first": (
        microsoft("GroupNorm", ["x", "s", "b"], groups=2, channels_last=0),
        {"x": (2, 4, 3, 2), "s": (4,), "b": (4,)},
        lambda x, s, b: F.group_norm(x, 2, s, b),
    ),
    "SkipGroupNorm": (
        microsoft("SkipGroupNorm", ["x", "s", "b", "r", "c"], groups=2),
        {"x": (2, 3, 2, 4), "s": (4,), "b": (4,), "r": (2, 4), "c": (4,)},
        lambda x, s, b, r, c: _channels_last(F.group_norm(_channels_first(x + r[:, None, None] + c), 2, s, b)),
    ),
    "GemmFastGelu": (
        microsoft("GemmFastGelu", ["x", "w", "b"]),
        {"x": (2, 4), "w": (4, 3), "b": (3,)},
        lambda x, w, b: F.gelu(x @ w + b, approximate="tanh"),
    ),
    "BiasSoftmax": (
        microsoft("BiasSoftmax", ["x", "b"], axis=3, is_inner_broadcast=1),
        {"x": (2, 2, 3, 4), "b": (2, 1, 1, 4)},
        lambda x, b: (x + b).softmax(-1),
    ),
    "BiasAdd": (
        microsoft("BiasAdd", ["x", "b", "r"]),
        {"x": (2, 3, 4), "b": (4,), "r": (2, 3, 4)},
        lambda x, b, r: x + b + r,
    ),
    "BiasSplitGelu": (
        microsoft("BiasSplitGelu", ["x", "b"]),
        {"x": (2, 3, 8), "b": (8,)},
        lambda x, b: (x + b)[..., :4] * F.gelu((x + b)[..., 4:]),
    ),
    "FusedMatMulActivation": (
        microsoft("FusedMatMulActivation", ["a", "b"], transB=1, activation="Tanh"),
        {"a": (2, 3, 4), "b": (2, 5, 4)},
        lambda a, b: torch.tanh(a @ b.mT),
    ),
}


@pytest.mark.parametrize("name", WITHOUT_A_KERNEL)
def test_fused_operator_without_a_kernel_on_the_processor(name: str) -> None:
    node, shapes, reference = WITHOUT_A_KERNEL[name]
    prove_without_a_kernel(node, {n: normal(*s) for n, s in shapes.items()}, reference)


def test_an_activation_that_is_unknown_is_refused() -> None:
    node = microsoft("FusedGemm", ["t", "w"], activation="Unheard")
    inputs = {"t": normal(3, 6), "w": normal(6, 24)}
    with pytest.raises(UnsupportedOperatorError, match="activation 'Unheard' is unknown"):
        vjp(build(Case([node], inputs, domains=["com.microsoft"]), np.float32), ["t"], ["y"])
