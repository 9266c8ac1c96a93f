"""Attention as ONNX Runtime's optimiser writes it: against PyTorch's, and against ONNX Runtime's own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.reverse import vjp
from fused_operators import microsoft, prove_fused, prove_without_a_kernel
from onnx_gradcheck import Case, build

RNG = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def _heads(value: torch.Tensor) -> torch.Tensor:
    """(N, T, 2 * D) -> (N, 2, T, D)."""
    return value.unflatten(2, (2, -1)).transpose(1, 2)


def _attend(q, k, v, bias=None, **settings: Any) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, bias, **settings).transpose(1, 2).flatten(2)


FUSED = {
    "MultiHeadAttention": (
        microsoft("MultiHeadAttention", ["q", "k", "v"], num_heads=2),
        {"q": (2, 3, 8), "k": (2, 5, 8), "v": (2, 5, 8)},
        lambda q, k, v: _attend(_heads(q), _heads(k), _heads(v)),
    ),
    "MultiHeadAttention, biased": (
        microsoft("MultiHeadAttention", ["q", "k", "v", "b", "", "a"], num_heads=2, scale=0.3),
        {"q": (2, 3, 8), "k": (2, 5, 8), "v": (2, 5, 8), "b": (24,), "a": (1, 2, 3, 5)},
        lambda q, k, v, b, a: _attend(_heads(q + b[:8]), _heads(k + b[8:16]), _heads(v + b[16:]), a, scale=0.3),
    ),
    "MultiHeadAttention, causal": (
        microsoft("MultiHeadAttention", ["q", "k", "v"], num_heads=2, unidirectional=1),
        {"q": (2, 4, 8), "k": (2, 4, 8), "v": (2, 4, 8)},
        lambda q, k, v: _attend(_heads(q), _heads(k), _heads(v), is_causal=True),
    ),
    "Attention": (
        microsoft("Attention", ["x", "w", "b"], num_heads=2),
        {"x": (2, 3, 6), "w": (6, 24), "b": (24,)},
        lambda x, w, b: _attend(*(_heads(t) for t in (x @ w + b).split(8, 2))),
    ),
    "Attention, causal": (
        microsoft("Attention", ["x", "w", "b"], num_heads=2, unidirectional=1),
        {"x": (2, 3, 6), "w": (6, 24), "b": (24,)},
        lambda x, w, b: _attend(*(_heads(t) for t in (x @ w + b).split(8, 2)), is_causal=True),
    ),
    "Attention, narrow values": (
        microsoft("Attention", ["x", "w", "b"], num_heads=2, qkv_hidden_sizes=[8, 8, 4], scale=0.4),
        {"x": (2, 3, 6), "w": (6, 20), "b": (20,)},
        lambda x, w, b: _attend(*(_heads(t) for t in (x @ w + b).split([8, 8, 4], 2)), scale=0.4),
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_attention(name: str) -> None:
    node, shapes, reference = FUSED[name]
    prove_fused(node, {n: normal(*s) for n, s in shapes.items()}, reference)


MASKS = {
    "Attention": microsoft("Attention", ["x", "w", "b", "m"], num_heads=2),
    "MultiHeadAttention": microsoft("MultiHeadAttention", ["x", "x", "x", "", "m"], num_heads=2),
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

    prove_fused(MASKS[name], inputs, reference)


WITHOUT_A_KERNEL = {
    "MultiHeadAttention, packed keys": (
        microsoft("MultiHeadAttention", ["q", "kv"], num_heads=2),
        {"q": (2, 3, 8), "kv": (2, 5, 2, 2, 4)},
        lambda q, kv: _attend(_heads(q), *(t.transpose(1, 2) for t in kv.unbind(3))),
    ),
    "MultiHeadAttention, all packed": (
        microsoft("MultiHeadAttention", ["qkv"], num_heads=2),
        {"qkv": (2, 5, 2, 3, 4)},
        lambda qkv: _attend(*(t.transpose(1, 2) for t in qkv.unbind(3))),
    ),
}


@pytest.mark.parametrize("name", WITHOUT_A_KERNEL)
def test_attention_without_a_kernel_on_the_processor(name: str) -> None:
    node, shapes, reference = WITHOUT_A_KERNEL[name]
    prove_without_a_kernel(node, {n: normal(*s) for n, s in shapes.items()}, reference)


REFUSED = {
    "lengths": (microsoft("Attention", ["x", "w", "b", "m"], num_heads=2), "mask holds lengths"),
    "past": (microsoft("Attention", ["x", "w", "b", "", "p"], num_heads=2), "cache of past keys"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_forms(name: str) -> None:
    node, why = REFUSED[name]
    arrays = {"x": normal(2, 3, 6), "w": normal(6, 24), "b": normal(24), "p": normal(2, 2, 2, 1, 4)}
    inputs = {n: arrays.get(n, np.ones(2, np.int32)) for n in node.input if n}
    with pytest.raises(UnsupportedOperatorError, match=why):
        vjp(build(Case([node], inputs, domains=["com.microsoft"]), np.float32), [node.input[0]], ["y"])
