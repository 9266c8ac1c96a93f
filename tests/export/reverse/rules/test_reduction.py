"""Reductions and running sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(3)


def distinct(*shape: int) -> np.ndarray:
    """Values that differ by at least 0.01 from each other."""
    count = int(np.prod(shape))
    return (RNG.permutation(count).reshape(shape) - count / 2 + 0.25) * (3.0 / count)


REDUCTIONS = {
    "ReduceSum": torch.sum,
    "ReduceMean": torch.mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceProd": None,
    "ReduceL1": lambda x, d, keepdim: x.abs().sum(d, keepdim=keepdim),
    "ReduceL2": lambda x, d, keepdim: (x * x).sum(d, keepdim=keepdim).sqrt(),
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceSumSquare": lambda x, d, keepdim: (x * x).sum(d, keepdim=keepdim),
    "ReduceLogSum": lambda x, d, keepdim: x.sum(d, keepdim=keepdim).log(),
}


@pytest.mark.parametrize("axes", [[1], [-1], [0, 2], [-2, -1], None])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reduction(op: str, keep: int, axes) -> None:
    reference = REDUCTIONS[op]
    x = distinct(2, 3, 4) + (2.0 if op == "ReduceLogSum" else 0.0)
    names = ["x"] if axes is None else ["x", "axes"]
    constants = {} if axes is None else {"axes": np.array(axes, np.int64)}
    dims = tuple(axes) if axes is not None else (0, 1, 2)
    wrapped = None if reference is None else lambda x: reference(x, dims, keepdim=bool(keep))
    node = helper.make_node(op, names, ["y"], keepdims=keep)
    prove(Case([node], {"x": x}, constants, torch=wrapped))


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
def test_reduction_with_axes_attribute(op: str) -> None:
    node = helper.make_node(op, ["x"], ["y"], axes=[-1, 1], keepdims=0)
    prove(Case([node], {"x": distinct(2, 3, 4)}, opset=13))


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_reduction_ties_are_shared_equally(op: str) -> None:
    reference = {"ReduceMax": torch.amax, "ReduceMin": torch.amin}[op]
    node = helper.make_node(op, ["x", "axes"], ["y"])
    x = RNG.integers(0, 3, (2, 3, 5)).astype(np.float64)
    constants = {"axes": np.array([1, 2], np.int64)}
    prove(Case([node], {"x": x}, constants, torch=lambda x: reference(x, (1, 2), keepdim=True), tolerance=np.inf))


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_reduce_prod_with_zeros(zeros: int) -> None:
    x = distinct(2, 5)
    x[0, :zeros] = 0.0
    node = helper.make_node("ReduceProd", ["x", "axes"], ["y"])
    prove(Case([node], {"x": x}, {"axes": np.array([1], np.int64)}, torch=lambda x: x.prod(1, keepdim=True)))


def test_reduction_of_nothing() -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], noop_with_empty_axes=1)
    case = Case([node], {"x": distinct(2, 3)}, {"axes": np.array([], np.int64)}, torch=lambda x: x)
    prove(case)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("backwards", [0, 1])
def test_cumsum(exclusive: int, backwards: int) -> None:
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], exclusive=exclusive, reverse=backwards)
    prove(Case([node], {"x": distinct(2, 4)}, {"axis": np.array(1)}))
