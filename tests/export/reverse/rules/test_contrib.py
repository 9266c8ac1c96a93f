"""Operators that ONNX Runtime's optimiser writes, one by one: against PyTorch, and against ONNX Runtime's own kernels.

Those that have no kernel on the CPU are compared with their documented formula only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.reverse import vjp
from onnx import helper
from onnx_gradcheck import Case, build, prove, run_ort

RNG = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def _heads(value: torch.Tensor) -> torch.Tensor:
    """(N, T, 2 * D) -> (N, 2, T, D)."""
    return value.unflatten(2, (2, -1)).transpose(1, 2)


def _attend(q, k, v, bias=None, **settings: Any) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, bias, **settings).transpose(1, 2).flatten(2)


def _microsoft(op: str, names: list[str], **attributes):
    return helper.make_node(op, names, ["y"], domain="com.microsoft", **attributes)


FUSED = {
    "Gelu": (_microsoft("Gelu", ["x"]), {"x": (2, 5)}, F.gelu),
    "BiasGelu": (_microsoft("BiasGelu", ["x", "b"]), {"x": (2, 5), "b": (5,)}, lambda x, b: F.gelu(x + b)),
    "FastGelu": (_microsoft("FastGelu", ["x"]), {"x": (2, 5)}, lambda x: F.gelu(x, approximate="tanh")),
    "QuickGelu": (_microsoft("QuickGelu", ["x"], alpha=1.5), {"x": (2, 5)}, lambda x: x * torch.sigmoid(1.5 * x)),
    "FusedMatMul": (
        _microsoft("FusedMatMul", ["a", "b"], transA=1, transB=1, alpha=0.5),
        {"a": (2, 4, 3), "b": (2, 5, 4)},
        lambda a, b: 0.5 * a.mT @ b.mT,
    ),
    "FusedConv": (
        _microsoft("FusedConv", ["x", "w", "b"], activation="LeakyRelu", activation_params=[0.25], pads=[1, 1, 1, 1]),
        {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3), "b": (3,)},
        lambda x, w, b: F.leaky_relu(F.conv2d(x, w, b, padding=1), 0.25),
    ),
    "FusedConv, with a sum": (
        _microsoft("FusedConv", ["x", "w", "b", "z"], activation="Relu"),
        {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3), "b": (3,), "z": (1, 3, 2, 2)},
        lambda x, w, b, z: F.relu(F.conv2d(x, w, b) + z),
    ),
    "FusedConv, clipped": (
        _microsoft("FusedConv", ["x", "w"], activation="Clip", activation_params=[-0.5, 0.75], strides=[2, 2]),
        {"x": (1, 2, 5, 5), "w": (3, 2, 3, 3)},
        lambda x, w: F.hardtanh(F.conv2d(x, w, stride=2), -0.5, 0.75),
    ),
    "FusedConv, hard sigmoid": (
        _microsoft("FusedConv", ["x", "w"], activation="HardSigmoid", activation_params=[0.25, 0.4]),
        {"x": (1, 2, 4, 4), "w": (3, 2, 3, 3)},
        lambda x, w: F.hardtanh(0.25 * F.conv2d(x, w) + 0.4, 0, 1),
    ),
    "FusedGemm, leaky": (
        _microsoft("FusedGemm", ["a", "b"], activation="LeakyRelu", activation_alpha=0.2, alpha=0.5),
        {"a": (3, 4), "b": (4, 5)},
        lambda a, b: F.leaky_relu(0.5 * a @ b, 0.2),
    ),
    "FusedMatMul, first axis moved": (
        _microsoft("FusedMatMul", ["a", "b"], transBatchA=1, transBatchB=1, transB=1),
        {"a": (3, 2, 2, 4), "b": (5, 2, 2, 4)},
        lambda a, b: a.permute(1, 2, 0, 3) @ b.permute(1, 2, 0, 3).mT,
    ),
    "FusedMatMul, moved and turned": (
        _microsoft("FusedMatMul", ["a", "b"], transBatchA=1, transA=1),
        {"a": (4, 2, 3), "b": (2, 4, 5)},
        lambda a, b: a.permute(1, 0, 2).mT @ b,
    ),
    "TransposeMatMul": (
        _microsoft("TransposeMatMul", ["a", "b"], transB=1, alpha=2.0),
        {"a": (2, 3, 4), "b": (2, 5, 4)},
        lambda a, b: 2 * a @ b.mT,
    ),
    "FastGelu, with bias": (
        _microsoft("FastGelu", ["x", "b"]),
        {"x": (2, 5), "b": (5,)},
        lambda x, b: F.gelu(x + b, approximate="tanh"),
    ),
    "SkipSimplifiedLayerNormalization": (
        _microsoft("SkipSimplifiedLayerNormalization", ["x", "r", "s"], epsilon=1e-5),
        {"x": (2, 3, 4), "r": (2, 3, 4), "s": (4,)},
        lambda x, r, s: F.rms_norm(x + r, (4,), s, 1e-5),
    ),
    "SkipLayerNormalization, with bias": (
        _microsoft("SkipLayerNormalization", ["x", "r", "s", "b", "c"], epsilon=1e-5),
        {"x": (2, 3, 4), "r": (2, 3, 4), "s": (4,), "b": (4,), "c": (4,)},
        lambda x, r, s, b, c: F.layer_norm(x + r + c, (4,), s, b),
    ),
    "FusedGemm": (
        _microsoft("FusedGemm", ["a", "b", "c"], activation="Tanh", transB=1),
        {"a": (3, 4), "b": (5, 4), "c": (5,)},
        lambda a, b, c: torch.tanh(a @ b.T + c),
    ),
    "SkipLayerNormalization": (
        _microsoft("SkipLayerNormalization", ["x", "r", "s", "b"], epsilon=1e-5),
        {"x": (2, 3, 4), "r": (2, 3, 4), "s": (4,), "b": (4,)},
        lambda x, r, s, b: F.layer_norm(x + r, (4,), s, b),
    ),
    "MultiHeadAttention": (
        _microsoft("MultiHeadAttention", ["q", "k", "v"], num_heads=2),
        {"q": (2, 3, 8), "k": (2, 5, 8), "v": (2, 5, 8)},
        lambda q, k, v: _attend(_heads(q), _heads(k), _heads(v)),
    ),
    "MultiHeadAttention, biased": (
        _microsoft("MultiHeadAttention", ["q", "k", "v", "b", "", "a"], num_heads=2, scale=0.3),
        {"q": (2, 3, 8), "k": (2, 5, 8), "v": (2, 5, 8), "b": (24,), "a": (1, 2, 3, 5)},
        lambda q, k, v, b, a: _attend(_heads(q + b[:8]), _heads(k + b[8:16]), _heads(v + b[16:]), a, scale=0.3),
    ),
    "MultiHeadAttention, causal": (
        _microsoft("MultiHeadAttention", ["q", "k", "v"], num_heads=2, unidirectional=1),
        {"q": (2, 4, 8), "k": (2, 4, 8), "v": (2, 4, 8)},
        lambda q, k, v: _attend(_heads(q), _heads(k), _heads(v), is_causal=True),
    ),
    "Attention": (
        _microsoft("Attention", ["x", "w", "b"], num_heads=2),
        {"x": (2, 3, 6), "w": (6, 24), "b": (24,)},
        lambda x, w, b: _attend(*(_heads(t) for t in (x @ w + b).split(8, 2))),
    ),
    "Attention, causal": (
        _microsoft("Attention", ["x", "w", "b"], num_heads=2, unidirectional=1),
        {"x": (2, 3, 6), "w": (6, 24), "b": (24,)},
        lambda x, w, b: _attend(*(_heads(t) for t in (x @ w + b).split(8, 2)), is_causal=True),
    ),
    "Attention, narrow values": (
        _microsoft("Attention", ["x", "w", "b"], num_heads=2, qkv_hidden_sizes=[8, 8, 4], scale=0.4),
        {"x": (2, 3, 6), "w": (6, 20), "b": (20,)},
        lambda x, w, b: _attend(*(_heads(t) for t in (x @ w + b).split([8, 8, 4], 2)), scale=0.4),
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_operator(name: str) -> None:
    node, shapes, reference = FUSED[name]
    case = Case([node], {n: normal(*s) for n, s in shapes.items()}, torch=reference, domains=["com.microsoft"])
    case.in_reference = False
    prove(case)


MASKS = {
    "Attention": _microsoft("Attention", ["x", "w", "b", "m"], num_heads=2),
    "MultiHeadAttention": _microsoft("MultiHeadAttention", ["x", "x", "x", "", "m"], num_heads=2),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 4)])
def test_padding_mask(name: str, shape) -> None:
    mask = RNG.integers(0, 2, shape).astype(np.int32)
    mask[..., 0] = 1
    inputs = {"x": normal(2, 4, 8), **({"w": normal(8, 24), "b": normal(24)} if name == "Attention" else {}), "m": mask}

    def reference(x, *rest):
        shown = rest[-1].bool()
        shown = shown[:, None, None] if shown.ndim == 2 else shown[:, None]
        parts = (x @ rest[0] + rest[1]).split(8, 2) if len(rest) > 1 else (x, x, x)
        q, k, v = (_heads(t) for t in parts)
        return _attend(q, k, v, torch.where(shown, 0.0, -10000.0).to(x))

    case = Case([MASKS[name]], inputs, torch=reference, domains=["com.microsoft"], in_reference=False)
    prove(case)


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
        _microsoft("NhwcConv", ["x", "w", "b"], pads=[1, 1, 1, 1], strides=[2, 2]),
        {"x": (1, 5, 4, 2), "w": (3, 3, 3, 2), "b": (3,)},
        lambda x, w, b: _channels_last(F.conv2d(_channels_first(x), _channels_first(w), b, 2, 1)),
    ),
    "NhwcFusedConv": (
        _microsoft("NhwcFusedConv", ["x", "w", "b", "z"], activation="Relu"),
        {"x": (1, 5, 4, 2), "w": (3, 2, 3, 3), "b": (3,), "z": (1, 3, 2, 3)},
        lambda x, w, b, z: F.relu(_channels_last(F.conv2d(_channels_first(x), w, b)) + z),
    ),
    "NhwcMaxPool": (
        _microsoft("NhwcMaxPool", ["x"], kernel_shape=[2, 2], strides=[1, 2]),
        {"x": (1, 5, 4, 2)},
        lambda x: _channels_last(F.max_pool2d(_channels_first(x), 2, (1, 2))),
    ),
    "GroupNorm": (
        _microsoft("GroupNorm", ["x", "s", "b"], groups=2, activation=1),
        {"x": (2, 3, 2, 4), "s": (4,), "b": (4,)},
        lambda x, s, b: F.silu(_channels_last(F.group_norm(_channels_first(x), 2, s, b))),
    ),
    "GroupNorm, channels first": (
        _microsoft("GroupNorm", ["x", "s", "b"], groups=2, channels_last=0),
        {"x": (2, 4, 3, 2), "s": (4,), "b": (4,)},
        lambda x, s, b: F.group_norm(x, 2, s, b),
    ),
    "SkipGroupNorm": (
        _microsoft("SkipGroupNorm", ["x", "s", "b", "r", "c"], groups=2),
        {"x": (2, 3, 2, 4), "s": (4,), "b": (4,), "r": (2, 4), "c": (4,)},
        lambda x, s, b, r, c: _channels_last(F.group_norm(_channels_first(x + r[:, None, None] + c), 2, s, b)),
    ),
    "GemmFastGelu": (
        _microsoft("GemmFastGelu", ["x", "w", "b"]),
        {"x": (2, 4), "w": (4, 3), "b": (3,)},
        lambda x, w, b: F.gelu(x @ w + b, approximate="tanh"),
    ),
    "BiasSoftmax": (
        _microsoft("BiasSoftmax", ["x", "b"], axis=3, is_inner_broadcast=1),
        {"x": (2, 2, 3, 4), "b": (2, 1, 1, 4)},
        lambda x, b: (x + b).softmax(-1),
    ),
    "BiasAdd": (
        _microsoft("BiasAdd", ["x", "b", "r"]),
        {"x": (2, 3, 4), "b": (4,), "r": (2, 3, 4)},
        lambda x, b, r: x + b + r,
    ),
    "BiasSplitGelu": (
        _microsoft("BiasSplitGelu", ["x", "b"]),
        {"x": (2, 3, 8), "b": (8,)},
        lambda x, b: (x + b)[..., :4] * F.gelu((x + b)[..., 4:]),
    ),
    "MultiHeadAttention, packed keys": (
        _microsoft("MultiHeadAttention", ["q", "kv"], num_heads=2),
        {"q": (2, 3, 8), "kv": (2, 5, 2, 2, 4)},
        lambda q, kv: _attend(_heads(q), *(t.transpose(1, 2) for t in kv.unbind(3))),
    ),
    "MultiHeadAttention, all packed": (
        _microsoft("MultiHeadAttention", ["qkv"], num_heads=2),
        {"qkv": (2, 5, 2, 3, 4)},
        lambda qkv: _attend(*(t.transpose(1, 2) for t in qkv.unbind(3))),
    ),
    "FusedMatMulActivation": (
        _microsoft("FusedMatMulActivation", ["a", "b"], transB=1, activation="Tanh"),
        {"a": (2, 3, 4), "b": (2, 5, 4)},
        lambda a, b: torch.tanh(a @ b.mT),
    ),
}


@pytest.mark.parametrize("name", WITHOUT_A_KERNEL)
def test_fused_operator_without_a_kernel_on_the_processor(name: str) -> None:
    """Its forward pass cannot run here; the gradient is written in standard operators."""
    node, shapes, reference = WITHOUT_A_KERNEL[name]
    inputs = {n: normal(*s) for n, s in shapes.items()}
    tensors = [torch.tensor(v, requires_grad=True) for v in inputs.values()]
    y = reference(*tensors)
    cotangent = torch.tensor(normal(*y.shape))
    (y * cotangent).sum().backward()
    product = vjp(build(Case([node], inputs, domains=["com.microsoft"]), np.float32), list(inputs), ["y"])
    feeds = {**inputs, "cotangent_y": cotangent.numpy()}
    taken = {i.name for i in product.graph.input}
    found = run_ort(product, {k: v.astype(np.float32) for k, v in feeds.items() if k in taken})
    for tensor, ours in zip(tensors, found, strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)


REFUSED = {
    "lengths": (_microsoft("Attention", ["x", "w", "b", "m"], num_heads=2), "mask holds lengths"),
    "past": (_microsoft("Attention", ["x", "w", "b", "", "p"], num_heads=2), "cache of past keys"),
    "activation": (_microsoft("FusedGemm", ["t", "w"], activation="Unheard"), "activation 'Unheard' is unknown"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_forms(name: str) -> None:
    node, why = REFUSED[name]
    arrays = {"x": normal(2, 3, 6), "t": normal(3, 6), "w": normal(6, 24), "b": normal(24), "p": normal(2, 2, 2, 1, 4)}
    inputs = {n: arrays.get(n, np.ones(2, np.int32)) for n in node.input if n}
    with pytest.raises(UnsupportedOperatorError, match=why):
        vjp(build(Case([node], inputs, domains=["com.microsoft"]), np.float32), [node.input[0]], ["y"])
