"""Softmax and its relatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(1)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_softmax(op: str, axis: int) -> None:
    reference = {"Softmax": torch.softmax, "LogSoftmax": torch.log_softmax}[op]
    node = helper.make_node(op, ["x"], ["y"], axis=axis)
    prove(Case([node], {"x": normal(2, 3, 4)}, torch=lambda x: reference(x, axis)))


def test_a_constant_gradient_of_a_logarithm_is_summed_over_its_axis() -> None:
    """The mean behind it gives every cell the same gradient, which stays of size 1 along the axis."""
    nodes = [
        helper.make_node("LogSoftmax", ["x"], ["logs"], axis=1),
        helper.make_node("ReduceMean", ["logs", "one"], ["y"], keepdims=0),
    ]
    case = Case(nodes, {"x": normal(2, 3, 4)}, {"one": np.array([1])})
    case.torch = lambda x: torch.log_softmax(x, 1).mean(1)
    prove(case)


def test_hardmax_has_no_gradient() -> None:
    nodes = [helper.make_node("Hardmax", ["x"], ["h"], axis=1), helper.make_node("Mul", ["h", "x"], ["y"])]
    # y is x where it is largest: the slope is 1 there and 0 elsewhere.
    prove(Case(nodes, {"x": normal(3, 4)}, torch=lambda x: torch.where(x == x.amax(1, keepdim=True), x, 0.0)))
