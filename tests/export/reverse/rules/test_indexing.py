"""Gather and its relatives, TopK, scattering and ReverseSequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cfcam.export.errors import UnsupportedOperatorError
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


GATHERS = {
    "one": np.array(0),
    "last": np.array(-1),
    "run": ints(1, 2),
    "permutation": ints(3, 0, 2, 1),
    "some": ints(2, 0),
    "repeats": ints(1, 3, 1, 1, 0),
    "many repeats": np.array([1] * 12 + [2, -4], np.int64),
    "matrix": np.array([[0, 2], [3, 0], [1, 1]], np.int64),
}


@pytest.mark.parametrize("name", GATHERS)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("computed", [False, True], ids=["constant", "computed"])
def test_gather(name: str, axis: int, computed: bool) -> None:
    shape = {0: (4, 2, 3), 1: (2, 4, 3), -1: (2, 3, 4)}[axis]
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=axis)
    inputs, constants = {"x": normal(*shape)}, {"i": GATHERS[name]}
    prove(Case([node], {**inputs, **constants}) if computed else Case([node], inputs, constants))


def test_gather_of_unknown_size() -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=1)
    prove(Case([node], {"x": normal(2, 5, 3)}, {"i": np.array(0)}, symbolic={"x": ["N", "T", 3]}))
    prove(Case([node], {"x": normal(2, 5, 3)}, {"i": ints(1, 1, 4)}, symbolic={"x": ["N", "T", 3]}))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(axis: int) -> None:
    indices = RNG.integers(-2, 2, (2, 2, 2))
    node = helper.make_node("GatherElements", ["x", "i"], ["y"], axis=axis)
    prove(Case([node], {"x": normal(2, 2, 2), "i": indices}, torch=lambda x, i: torch.gather(x, axis, i % 2)))


def test_gather_elements_of_a_corner() -> None:
    node = helper.make_node("GatherElements", ["x", "i"], ["y"], axis=1)
    indices = np.array([[4, 0], [1, 1]], np.int64)
    case = Case([node], {"x": normal(4, 5)}, {"i": indices}, torch=lambda x: x.gather(1, torch.tensor(indices)))
    case.in_reference = False
    prove(case)


@pytest.mark.parametrize(
    ("shape", "indices", "batch"),
    [
        ((3, 4), [[0, 1], [2, 3], [0, 1]], 0),
        ((3, 4, 2), [[[0, 1]], [[2, -1]]], 0),
        ((3, 4, 2), [[1], [2], [1]], 0),
        ((2, 3, 4), [[[0], [2]], [[1], [1]]], 1),
    ],
)
def test_gather_nd(shape, indices, batch: int) -> None:
    node = helper.make_node("GatherND", ["x", "i"], ["y"], batch_dims=batch)
    prove(Case([node], {"x": normal(*shape)}, {"i": np.array(indices, np.int64)}))


def test_gather_nd_with_the_batch_among_the_axes_that_are_kept() -> None:
    """What PyTorch's converter writes for pooling to a grid that the size does not divide by."""
    indices = np.array([[[0, 1], [1, 2]], [[1, 2], [0, 0]]], np.int64)
    node = helper.make_node("GatherND", ["x", "i"], ["y"])
    prove(Case([node], {"x": normal(2, 3, 5, 4)}, {"i": indices}, symbolic={"x": (2, 3, "batch", 4)}))


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(axis: int, largest: int) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"], axis=axis, largest=largest)
    x = RNG.permutation(24).reshape(2, 3, 4) / 4.0
    prove(Case([node], {"x": x}, {"k": ints(2)}, torch=lambda x: x.topk(2, axis, bool(largest)).values))


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter_elements(reduction: str) -> None:
    node = helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=1, reduction=reduction)
    indices = np.array([[3, 0], [1, -2]])
    inputs = {"x": normal(2, 4), "u": normal(2, 2)}
    # The reference evaluator adds without looking at the sign of the index.
    prove(Case([node], inputs, {"i": np.where(indices < 0, indices + 4, indices)}))


def test_scatter_nd() -> None:
    node = helper.make_node("ScatterND", ["x", "i", "u"], ["y"])
    prove(Case([node], {"x": normal(4, 3), "u": normal(2, 3)}, {"i": np.array([[2], [0]])}))


def test_scatter_with_another_reduction_is_refused() -> None:
    node = helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction="max")
    with pytest.raises(UnsupportedOperatorError, match="combines values by 'max'"):
        prove(Case([node], {"x": normal(4, 3), "u": normal(2, 3)}, {"i": np.array([[2], [0]])}))


def test_reverse_sequence() -> None:
    node = helper.make_node("ReverseSequence", ["x", "lengths"], ["y"], batch_axis=0, time_axis=1)
    prove(Case([node], {"x": normal(3, 4, 2)}, {"lengths": ints(1, 4, 3)}))
