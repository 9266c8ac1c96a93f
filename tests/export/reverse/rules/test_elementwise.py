"""Elementwise operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_gradcheck import Case, prove

RNG = np.random.default_rng(1)


def spread(*shape: int, low: float = 0.2, high: float = 1.5) -> np.ndarray:
    """Values of both signs, all at least `low` away from zero."""
    return RNG.uniform(low, high, shape) * RNG.choice([-1.0, 1.0], shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.3, 1.7, shape)


UNARY = {
    "Sqrt": (positive, torch.sqrt, {}),
    "Exp": (spread, torch.exp, {}),
    "Log": (positive, torch.log, {}),
    "Neg": (spread, torch.neg, {}),
    "Abs": (spread, torch.abs, {}),
    "Reciprocal": (spread, torch.reciprocal, {}),
    "Erf": (spread, torch.erf, {}),
    "Sin": (spread, torch.sin, {}),
    "Cos": (spread, torch.cos, {}),
    "Tan": (lambda *s: spread(*s, high=1.2), torch.tan, {}),
    "Sinh": (spread, torch.sinh, {}),
    "Cosh": (spread, torch.cosh, {}),
    "Asin": (lambda *s: spread(*s, high=0.9), torch.asin, {}),
    "Acos": (lambda *s: spread(*s, high=0.9), torch.acos, {}),
    "Atan": (spread, torch.atan, {}),
    "Asinh": (spread, torch.asinh, {}),
    "Acosh": (lambda *s: positive(*s) + 1, torch.acosh, {}),
    "Atanh": (lambda *s: spread(*s, high=0.9), torch.atanh, {}),
}


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str) -> None:
    make, reference, attributes = UNARY[op]
    # The reference evaluator rounds Erf to float32, so differences of it are coarse; PyTorch's answer is exact.
    tolerance = 2e-2 if op == "Erf" else 1e-6
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    prove(Case([node], {"x": make(3, 5)}, torch=reference, tolerance=tolerance))


@pytest.mark.parametrize(
    "shapes", [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((3,), (2, 3)), ((), (2,))]
)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_binary_broadcasting(op: str, shapes) -> None:
    reference = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}[op]
    inputs = {"a": spread(*shapes[0]), "b": spread(*shapes[1])}
    prove(Case([helper.make_node(op, ["a", "b"], ["y"])], inputs, torch=reference))


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_broadcast_operand_under_a_constant_gradient(op: str) -> None:
    """After a mean the gradient is the same in all cells; the operand's share is that times their number."""
    nodes = [helper.make_node(op, ["x", "b"], ["sum"]), helper.make_node("GlobalAveragePool", ["sum"], ["y"])]
    inputs = {"x": spread(2, 3, 4, 5), "b": spread(1, 3, 1, 1)}
    prove(Case(nodes, inputs))
    prove(Case(nodes, inputs, symbolic={"x": ["N", 3, "H", "W"]}))


def test_square_by_mul() -> None:
    prove(Case([helper.make_node("Mul", ["x", "x"], ["y"])], {"x": spread(3, 4)}, torch=torch.square))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0, -1.5])
def test_pow_constant(power: float) -> None:
    node = helper.make_node("Pow", ["x", "p"], ["y"])
    prove(Case([node], {"x": positive(3, 4)}, {"p": np.array(power)}, torch=lambda x: x**power))


def test_pow_computed() -> None:
    node = helper.make_node("Pow", ["x", "p"], ["y"])
    prove(Case([node], {"x": positive(3, 4), "p": spread(4)}, torch=torch.pow))


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
def test_variadic(op: str) -> None:
    inputs = {"a": spread(2, 3), "b": spread(3), "c": spread(1, 1)}
    prove(Case([helper.make_node(op, ["a", "b", "c"], ["y"])], inputs))


@pytest.mark.parametrize(("op", "reference"), [("Max", torch.maximum), ("Min", torch.minimum)])
def test_ties_are_shared_equally(op: str, reference) -> None:
    same = spread(2, 3)
    node = helper.make_node(op, ["a", "b"], ["y"])
    # Differences do not exist at a tie, PyTorch's convention does.
    case = Case([node], {"a": same, "b": same.copy()}, torch=reference, tolerance=np.inf)
    prove(case)


def test_where() -> None:
    inputs = {"c": RNG.choice([True, False], (2, 3)), "a": spread(2, 3), "b": spread(1, 3)}
    prove(Case([helper.make_node("Where", ["c", "a", "b"], ["y"])], inputs, torch=torch.where))


def test_steps_have_no_gradient() -> None:
    nodes = [helper.make_node("Round", ["x"], ["r"]), helper.make_node("Add", ["r", "x"], ["y"])]
    x = spread(3, 4)
    prove(Case(nodes, {"x": x}, torch=lambda x: torch.round(x) + x))
