"""`IntervalNetwork`: bounds of a network's values over a box of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto

from ...export.errors import UnsupportedOperatorError
from ...export.proof.float64 import Evaluator
from ...export.reverse.registry import node_name
from ...export.tail.cutting import open_exported
from ...runtime.errors import ArrayError, MethodError
from .registry import ARITHMETICS, Bounds, Context, evaluate, find_rule, supported_operators

__all__ = ["IntervalNetwork"]


class IntervalNetwork:
    """Interval bound propagation (Gowal et al. 2018, arXiv 1810.12715) on an ONNX graph.

    model: with one image input (N, ...), and maybe others, which nothing that is asked for may depend on. image: the
    name of that input. outputs: values, by name, whose bounds are wanted. arithmetic: whose values the bounds
    contain, ``float32`` or ``real``, see `ARITHMETICS`.

    Bounds of one operator are as tight as intervals allow (but for the margin of rounding); that a network's neurons
    move together is not seen, so that the bounds widen with every layer, and on deep networks beyond use.

    Raises `UnsupportedOperatorError` for an operator without a rule, when the network is opened.
    """

    def __init__(self, model: ModelProto, image: str, outputs: Sequence[str], *, arithmetic: str = "float32") -> None:
        if arithmetic not in ARITHMETICS:
            raise MethodError(f"arithmetic: expected one of {', '.join(ARITHMETICS)}, got {arithmetic!r}")
        self.graph = open_exported(model)
        self.image = image
        self.outputs = tuple(outputs)
        self.arithmetic = ARITHMETICS[arithmetic]
        self._evaluator = Evaluator(self.graph.to_model())
        needed = self.graph.ancestors(self.outputs)
        moved = self.graph.descendants([image])
        self._nodes = [n for n in self.graph.nodes if any(o in needed for o in n.output)]
        for node in self._nodes:
            inside = any(name in moved for name in node.input)
            if inside and node.op_type not in ("Shape", "Size") and find_rule(node) is None:
                raise UnsupportedOperatorError(
                    f"{node_name(node)}: {node.op_type} has no interval bounds, so the map cannot be certified; "
                    f"covered are {', '.join(supported_operators())}"
                )
        # The node behind which a value is no longer needed.
        self._last = {name: node for node in self._nodes for name in node.input}

    def __call__(self, low: ArrayLike, high: ArrayLike) -> dict[str, Bounds]:
        """Bounds of the outputs for all images between `low` and `high`, (N, ...) in the input's layout.

        Raises `ArrayError`, and `UnsupportedOperatorError` for a node in a form that its rule does not cover.
        """
        ends = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if ends[0].shape != ends[1].shape or not np.isfinite(ends).all() or (ends[0] > ends[1]).any():
            raise ArrayError(f"bounds: expected finite low <= high of one shape, got {ends[0].shape}, {ends[1].shape}")
        values: dict[str, Bounds | NDArray[Any]] = {self.image: Bounds(*ends)}
        with np.errstate(over="ignore", invalid="ignore"):  # bounds may grow beyond all numbers
            for node in self._nodes:
                inputs = [self._value(values, name) for name in node.input]
                for name, found in zip(node.output, self._bound(node, inputs), strict=False):
                    if name:
                        values[name] = found
                for name in node.input:
                    if self._last[name] is node and name not in self.outputs:
                        values.pop(name, None)
        found = {name: values.get(name) for name in self.outputs}
        return {name: value if isinstance(value, Bounds) else _fixed(name, value) for name, value in found.items()}

    def _bound(self, node: Any, inputs: list[Bounds | NDArray[Any] | None]) -> list[Bounds] | list[NDArray[Any]]:
        bounded = [value for value in inputs if isinstance(value, Bounds)]
        if not bounded:
            return evaluate(node, [v for v in inputs if not isinstance(v, Bounds)], self._evaluator)
        if node.op_type in ("Shape", "Size"):
            return evaluate(node, [bounded[0].low], self._evaluator)
        rule = find_rule(node)
        assert rule is not None
        makers = [self.graph.producers.get(name) for name in node.input]
        found = rule(Context(node, inputs, makers, self._evaluator, self.arithmetic))
        return found if isinstance(found, list) else [found]

    def _value(self, values: dict[str, Bounds | NDArray[Any]], name: str) -> Bounds | NDArray[Any] | None:
        if not name or name in values:
            return values.get(name)
        constant = self.graph.constant(name)
        if constant is None:
            raise MethodError(f"value '{name}' depends on an input of the file other than '{self.image}'")
        return constant


def _fixed(name: str, value: NDArray[Any] | None) -> Bounds:
    if value is None:
        raise MethodError(f"the graph computes no value '{name}' from the image")
    exact = np.asarray(value, np.float64)
    return Bounds(exact, exact)
