"""The table of derivative rules, and what a rule gets to see.

A rule is a function of one `Context`; it returns ``{input index: gradient}``. A gradient may
be a `Value`, None (absent: no contribution), or a function without arguments that makes one;
only the entries of inputs on the path are called.

Shapes. A gradient has the rank of the value it belongs to, and each of its dims is that
value's dim or 1; a 1 means "the same along this axis" and is kept as long as possible, since
it makes the backward pass of a global pooling free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from onnx import NodeProto

from ..errors import UnsupportedOperatorError
from ..graph import Graph, attribute
from .emitter import Emitter, OneHot, Value

__all__ = ["Context", "Gradients", "Rule", "find_rule", "node_name", "register_fused", "rule", "supported_operators"]

Gradients = Mapping[int, "Value | Callable[[], Value | None] | None"]


@dataclass(frozen=True)
class Rule:
    """broadcasting: results are summed to the inputs' shapes (numpy broadcasting operators)."""

    derive: Callable[[Context], Gradients]
    broadcasting: bool = False


_RULES: dict[tuple[str, str], Rule] = {}
_FUSED: set[tuple[str, str]] = set()


def rule(*operators: str, broadcasting: bool = False, domain: str = "") -> Callable[[Callable], Callable]:
    """Register the decorated function for `operators` of `domain`."""

    def decorate(derive: Callable[[Context], Gradients]) -> Callable[[Context], Gradients]:
        for operator in operators:
            if (domain, operator) in _RULES:
                raise ValueError(f"two rules for {operator}")
            _RULES[domain, operator] = Rule(derive, broadcasting)
        return derive

    return decorate


def register_fused(domain: str, operator: str) -> None:
    """Note that an operator is covered by being written out (see `rewriting`)."""
    _FUSED.add((domain, operator))


def find_rule(node: NodeProto) -> Rule | None:
    """The rule for a node, or None."""
    return _RULES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


def supported_operators() -> list[str]:
    """Names of operators that can be differentiated, sorted; those of other domains as ``domain::Name``."""
    return sorted(f"{d}::{n}" if d else n for d, n in {*_RULES, *_FUSED})


def node_name(node: NodeProto) -> str:
    """How a node is named to people."""
    operator = f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return f"{operator} node '{node.name}'"


class Context:
    """One node on the path, the gradients of its outputs, and the means to write more nodes.

    e: the emitter. node: the node. Positions count inputs and outputs from 0.
    """

    def __init__(
        self, emitter: Emitter, node: NodeProto, gradients: list[Value | None], wanted: frozenset[int]
    ) -> None:
        self.e, self.node, self.gradients, self.wanted = emitter, node, gradients, wanted

    @property
    def graph(self) -> Graph:
        return self.e.graph

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute value; lists come as lists of Python numbers."""
        value = attribute(self.node, name, default)
        return list(value) if isinstance(value, list | tuple) or hasattr(value, "append") else value

    def has(self, position: int) -> bool:
        """True when the (optional) input is given."""
        return position < len(self.node.input) and bool(self.node.input[position])

    def x(self, position: int = 0) -> Value:
        """Input `position`."""
        return self.e.value(self.node.input[position])

    def y(self, position: int = 0) -> Value:
        """Output `position`."""
        return self.e.value(self.node.output[position])

    def constant(self, position: int) -> np.ndarray | None:
        """Input `position` as an array when it is a constant of the graph."""
        return self.graph.constant(self.node.input[position]) if self.has(position) else None

    def ints(self, position: int, attribute_name: str | None = None) -> list[int] | None:
        """Constant integers from an input, or from the attribute that older opsets used; None when absent.

        Raises `UnsupportedOperatorError` when they are computed at run time.
        """
        if self.has(position):
            array = self.constant(position)
            if array is None:
                self.fail(f"its input {position} ('{self.node.input[position]}') is computed at run time")
            return [int(v) for v in np.asarray(array).reshape(-1)]
        return self.attr(attribute_name) if attribute_name else None

    @property
    def g(self) -> Value:
        """Gradient of output 0; axes of size 1 stand for constant ones."""
        gradient = self.gradients[0]
        if gradient is None:
            self.fail("only its first output can be differentiated")
        return gradient

    @property
    def full(self) -> Value:
        """Gradient of output 0 at the output's full shape."""
        return self.e.expand(self.g, self.y())

    @property
    def seed(self) -> OneHot | None:
        """The gradient of output 0 when it is the one-hot seed itself."""
        return self.g if isinstance(self.g, OneHot) else None

    def axis(self, value: int, rank: int) -> int:
        """A non-negative axis."""
        return value + rank if value < 0 else value

    def axes(self, values: list[int] | None, rank: int) -> list[int]:
        """Sorted non-negative axes; None means all."""
        return list(range(rank)) if values is None else sorted(self.axis(v, rank) for v in values)

    def sum_over(self, gradient: Value, like: Value, axes: list[int]) -> Value:
        """Sum over `axes` (kept as 1) of a gradient that belongs to `like`; constant axes are multiplied."""
        e = self.e
        constant = [a for a in axes if gradient.dims[a] == 1 and like.dims[a] != 1]
        total = e.reduce("ReduceSum", gradient, [a for a in axes if a not in constant])
        return e.scaled_by_size(total, e.size_of(like, constant)) if constant else total

    def sum_to(self, gradient: Value, out: Value, target: Value) -> Value:
        """Undo numpy broadcasting: from the shape of `out` to that of `target` (ones are kept)."""
        e = self.e
        lead = out.rank - target.rank
        aligned = (1,) * lead + target.dims
        axes = [i for i, (a, b) in enumerate(zip(aligned, out.dims, strict=True)) if a == 1 and b != 1]
        result = self.sum_over(gradient, out, axes)
        if lead:
            result = e.squeeze(result, list(range(lead)))
        return result

    def fail(self, why: str) -> NoReturn:
        """Raise `UnsupportedOperatorError` for this node."""
        raise UnsupportedOperatorError(
            f"{node_name(self.node)}: {why}, so it cannot be differentiated",
            next((o for o in self.node.output if o), None),
        )

    def static(self, value: Value, axes: list[int], what: str) -> list[int]:
        """The dims of `value` on `axes`; raises when one is not static."""
        dims = [value.dims[a] for a in axes]
        if not all(isinstance(d, int) for d in dims):
            self.fail(f"{what} must be static, found shape {value.shape}; fix the input size of the model")
        return [int(d) for d in dims if isinstance(d, int)]
