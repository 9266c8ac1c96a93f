"""Attention as ONNX defines it, which is written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


ATTENTIONS = {
    "heads apart": ({}, [(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3)]),
    "heads together": ({"q_num_heads": 2, "kv_num_heads": 2}, [(2, 3, 8), (2, 5, 8), (2, 5, 6)]),
    "grouped queries": ({}, [(1, 4, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)]),
    "causal": ({"is_causal": 1}, [(1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 3)]),
    "scaled and capped": ({"scale": 0.7, "softcap": 2.0}, [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)]),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(name: str) -> None:
    attributes, shapes = ATTENTIONS[name]
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], **attributes)
    inputs = {n: normal(*s) for n, s in zip("qkv", shapes, strict=True)}
    case = Case([node], inputs, opset=23, in_ort=False)
    if name in ("heads apart", "causal"):
        causal = name == "causal"
        case.torch = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    prove(case)


def test_keys_that_are_the_values_are_given_out_under_both_names() -> None:
    node = helper.make_node("Attention", ["q", "k", "k"], ["o", "keys", "values"], q_num_heads=2, kv_num_heads=2)
    nodes = [node, helper.make_node("Mul", ["keys", "values"], ["product"])]
    nodes.append(helper.make_node("ReduceSum", ["product", "heads"], ["y"], keepdims=0))
    case = Case(nodes, {"k": normal(1, 5, 8), "q": normal(1, 3, 8)}, {"heads": np.array([1])}, opset=23, in_ort=False)
    case.wrt = ["k"]
    case.torch = lambda k, q: (k * k).unflatten(2, (2, 4)).sum(2)
    prove(case)


def test_attention_over_a_window_is_refused() -> None:
    """ONNX Runtime and older opsets know no windows; ignoring one would give a wrong gradient."""
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], left_window_size=1)
    inputs = {n: normal(1, 2, 3, 4) for n in "qkv"}
    with pytest.raises(UnsupportedOperatorError, match="sliding window"):
        prove(Case([node], inputs, opset=25))


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_attention_mask(kind: str) -> None:
    mask = RNG.choice([True, False], (3, 5))
    mask[:, 0] = True
    extra = mask if kind == "bool" else normal(3, 5)
    node = helper.make_node("Attention", ["q", "k", "v", "m"], ["y"])
    inputs = {"q": normal(1, 2, 3, 4), "k": normal(1, 2, 5, 4), "v": normal(1, 2, 5, 4)}
    case = Case([node], {**inputs, "m": extra}, opset=23, in_ort=False)
    case.torch = lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m)
    prove(case)
