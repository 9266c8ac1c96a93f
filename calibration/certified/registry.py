"""The table of bounding rules, and what a rule gets to see.

A rule is a function of one `Context`. It returns the `Bounds` of the node's output (a list, where the node has
several), which must contain every value that the node can give for inputs within the bounds of its inputs: the
exact one, and the one that an engine computes with rounding, see `Arithmetic`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from ...export.errors import UnsupportedOperatorError
from ...export.graph import attribute
from ...export.proof.float64 import Evaluator
from ...export.proof.float64.operators import find_operator
from ...export.reverse.registry import node_name

__all__ = [
    "ARITHMETICS",
    "Arithmetic",
    "Bounds",
    "Context",
    "find_rule",
    "rule",
    "supported_operators",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Arithmetic:
    """Whose values the bounds contain, besides those of exact arithmetic.

    unit: relative error of one operation. function: absolute error of a sigmoid or another function that is
    approximated. tiny: absolute error of one operation, where numbers so small may be taken for zero.

    A sum of n products then differs from the exact one by at most n u / (1 - n u) times the sum of the
    absolute products, in whatever order and with or without fused multiply-adds (Higham, "Accuracy and Stability of
    Numerical Algorithms", 2002, section 3.1).
    """

    name: str
    unit: float
    function: float
    tiny: float

    def gamma(self, terms: int) -> float:
        """Relative error of `terms` operations, one after the other."""
        error = terms * self.unit
        return error / (1 - error) if error < 0.5 else math.inf


#: ``float32``: engines that compute in IEEE float32 (round to nearest, any order of sums, any fusing of a convolution
#: with what is linear behind it); no TF32 or float16, no Winograd or FFT convolutions. ``real``: exact arithmetic with
#: the file's weights; the error is that of the float64 in which the bounds themselves are computed, four times over.
ARITHMETICS = {
    "float32": Arithmetic("float32", 2.0**-24 + 2.0**-51, 2.0**-20, 2.0**-100),
    "real": Arithmetic("real", 2.0**-51, 2.0**-44, 2.0**-900),
}


@dataclass(frozen=True, eq=False)
class Bounds:
    """low <= value <= high, float64 of the value's shape.

    terms: how many roundings lie in the value that an engine may do together with what is linear behind it.
    """

    low: Array
    high: Array
    terms: int = 1

    @property
    def centre(self) -> Array:
        return (self.low + self.high) / 2

    @property
    def radius(self) -> Array:
        return (self.high - self.low) / 2

    @property
    def size(self) -> Array:
        """Largest magnitude."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape


Rule = Callable[["Context"], "Bounds | list[Bounds]"]

_RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for `operators` (of ONNX's own domain, or ``domain::Name``)."""

    def decorate(bound: Rule) -> Rule:
        for operator in operators:
            if operator in _RULES:
                raise ValueError(f"two rules for {operator}")
            _RULES[operator] = bound
        return bound

    return decorate


def find_rule(node: NodeProto) -> Rule | None:
    """The rule for a node, or None."""
    return _RULES.get(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}")


def supported_operators() -> list[str]:
    """Names of the operators that can be bounded, sorted."""
    return sorted(_RULES)


class Context:
    """One node, what is known of its inputs, and the means to bound its output.

    inputs: `Bounds` for what depends on the image, arrays for what doesn't, None for absent ones. makers: the nodes
    that make the inputs, None for constants and the image. Positions count from 0.
    """

    def __init__(
        self,
        node: NodeProto,
        inputs: Sequence[Bounds | Array | None],
        makers: Sequence[NodeProto | None],
        evaluator: Evaluator,
        arithmetic: Arithmetic,
    ) -> None:
        self.node, self.inputs, self.makers, self.arithmetic = node, inputs, makers, arithmetic
        self._evaluator = evaluator

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def x(self, position: int = 0) -> Bounds:
        """Bounds of an input; a constant is its own."""
        value = self.inputs[position]
        if isinstance(value, Bounds):
            return value
        exact = self.constant(position)
        return Bounds(exact, exact)

    def has(self, position: int) -> bool:
        return position < len(self.inputs) and self.inputs[position] is not None

    def constant(self, position: int) -> Array:
        """An input that must not depend on the image, float64 if it is a float. Fails otherwise."""
        value = self.inputs[position]
        if value is None or isinstance(value, Bounds):
            name = self.node.input[position]
            self.fail(f"its input {position} ('{name}') depends on the image, where only a constant can be bounded")
        return value.astype(np.float64) if value.dtype.kind == "f" else value

    def evaluate(self, *inputs: Array | None) -> list[Array]:
        """The node's outputs in float64, for these inputs; the ones that are left out are taken as they are."""
        rest = [None if value is None else self.constant(i) for i, value in enumerate(self.inputs) if i >= len(inputs)]
        return evaluate(self.node, [*inputs, *rest], self._evaluator)

    def rounded(self, low: Array, high: Array, error: Array | float, terms: int = 1) -> Bounds:
        """Bounds that hold values between `low` and `high`, which may be off by `error`."""
        error = error + self.arithmetic.tiny
        return Bounds(low - error, high + error, terms)

    def gamma(self, terms: int) -> float:
        # Some more for the arithmetic of the bounds themselves: centre, radius, margin, their sum.
        return self.arithmetic.gamma(terms + 8)

    def fail(self, why: str) -> NoReturn:
        """Raise `UnsupportedOperatorError` for this node."""
        raise UnsupportedOperatorError(f"{node_name(self.node)}: {why}, so the map cannot be certified")


def evaluate(node: NodeProto, inputs: Sequence[Array | None], evaluator: Evaluator) -> list[Array]:
    """The outputs of one node, floats in float64. Raises `UnsupportedOperatorError`."""
    operator = find_operator(node)
    if operator is not None:
        found = operator(node, list(inputs), evaluator.opset)
        if found is not NotImplemented:
            return list(found) if isinstance(found, tuple) else [found]
    return evaluator.reference(node, {n: a for n, a in zip(node.input, inputs, strict=False) if n and a is not None})
