"""Whether a value holds probabilities, and of which scores: softmax and sigmoid behind whatever keeps their order.

Networks rarely end in the softmax itself. Quantised ones have QuantizeLinear and DequantizeLinear behind it,
others a limit, a factor of 100, a choice of columns, pieces that are joined, or the mean of several views; and
some write it out as ``exp(x) / sum(exp(x))``. What moves, chooses or averages probabilities is repeated on the scores.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from onnx import NodeProto, helper

from ..graph import Graph, Shape, attribute
from .emitter import Emitter, Value

__all__ = ["Origin", "find_origin"]

Kind = Literal["softmax", "sigmoid", "log-softmax", "log-sigmoid"]

_KEEPING = {"Identity", "Dropout", "Cast"}
#: What changes a probability by rounding or at the ends only.
_LIMITING = {"Clip", "Relu", "Round", "Floor", "Ceil"}
_MOVING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
_CHOOSING = {"Slice", "Gather", "GatherElements", "Split"}
_JOINING = {"Add", "Sum", "Mean", "Concat"}
_REDUCING = {"ReduceMean", "ReduceSum", "GlobalAveragePool"}

#: Nodes between an output and its softmax. A network's own additions go on for hundreds.
_FARTHEST = 24


@dataclass(frozen=True)
class Origin:
    """value = factor * f(scores) + offset, with f the softmax, sigmoid, or the logarithm of one.

    scores: writes what repeats the steps behind f on the scores, and returns it. leaf: the scores right in front of f.
    leaves: of all parts. axis: that of the classes in the value, None where it cannot be followed.
    direct: nothing but reshaping stands behind. exact: f(scores) gives the value; otherwise the scores are in front
    of it, but the steps behind rounded, chose, joined or averaged.
    """

    kind: Kind
    scores: Callable[[Emitter], Value]
    leaf: str
    leaves: frozenset[str]
    axis: int | None
    factor: float = 1.0
    offset: float = 0.0
    direct: bool = True
    exact: bool = True


def find_origin(graph: Graph, name: str) -> Origin | None:
    """The scores that the probabilities in `name` were made of; None where it holds none that are recognised."""
    return _Walk(graph).origin(name, _FARTHEST)


class _Walk:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[str, Origin | None] = {}

    def origin(self, name: str, left: int) -> Origin | None:
        if name not in self._known:
            node = self._graph.producers.get(name)
            found = None if node is None or not left or not any(node.input) else self._by_node(name, node, left - 1)
            self._known[name] = found
        return self._known[name]

    def _by_node(self, name: str, node: NodeProto, left: int) -> Origin | None:
        kind = node.op_type
        leaf = self._leaf(node)
        if leaf is not None:
            return leaf
        if kind in _KEEPING:
            return self.origin(node.input[0], left)
        if kind in _LIMITING or (kind in ("Min", "Max") and self._number(node) is not None):
            position = 0 if kind in _LIMITING else self._number(node)[1]  # type: ignore[index]
            inner = self.origin(node.input[position], left)
            return None if inner is None else replace(inner, exact=False, direct=False)
        if kind in ("QuantizeLinear", "DequantizeLinear"):
            return self._quantised(node, left)
        if kind in ("Mul", "Div", "Add", "Sub", "Neg") and (scaled := self._scaled(node, left)) is not None:
            return scaled
        if kind in ("Log", "Exp"):
            return _through_logarithm(kind, self.origin(node.input[0], left))
        if kind == "Div":
            return self._shared_out(node, left)
        if kind in _MOVING:
            return self._moved(name, node, left)
        if kind in _CHOOSING:
            return self._chosen(name, node, left)
        if kind in _JOINING:
            return self._joined(node, left)
        if kind in _REDUCING:
            return self._reduced(node, left)
        return None

    # -- f itself

    def _leaf(self, node: NodeProto) -> Origin | None:
        kind, source = node.op_type, node.input[0]
        if kind in ("Softmax", "LogSoftmax"):
            rank = len(self._graph.shape(source) or ())
            axis = attribute(node, "axis", -1)
            return _leaf("softmax" if kind == "Softmax" else "log-softmax", source, axis % rank if rank else None)
        if kind == "Sigmoid":
            return _leaf("sigmoid", source, None)
        if kind == "HardSigmoid":
            return replace(_leaf("sigmoid", source, None), exact=False, direct=False)
        if kind == "Tanh":  # tanh(x) = 2 sigmoid(2 x) - 1
            twice = replace(_leaf("sigmoid", source, None), factor=2.0, offset=-1.0, direct=False)
            return replace(twice, scores=lambda e: e.value(source) * 2)
        return self._written_out(node)

    def _written_out(self, node: NodeProto) -> Origin | None:
        """exp(x) / sum(exp(x)), x - log(sum(exp(x))), 1 / (1 + exp(-x)) and exp(x) / (1 + exp(x))."""
        top = bottom = None
        if node.op_type == "Reciprocal":
            bottom = node.input[0]
        elif node.op_type == "Div":
            top, bottom = node.input
        elif node.op_type == "Mul":
            inverse = [i for i, n in enumerate(node.input) if self._maker(n, "Reciprocal") is not None]
            if inverse:
                top = node.input[1 - inverse[0]]
                bottom = self._graph.producers[node.input[inverse[0]]].input[0]
        elif node.op_type == "Sub" and self._is_log_sum(node.input[1], node.input[0]):
            return _leaf("log-softmax", node.input[0], self._last_axis(node.input[0]))
        if bottom is None:
            return None
        power = None if top is None else self._maker(top, "Exp")
        total = self._maker(bottom, "ReduceSum")
        if power is not None and total is not None and total.input[0] == top:
            scores = self._unshifted(power.input[0])
            return _leaf("softmax", scores, self._axis_of(total))
        one_more = self._maker(bottom, "Add")
        other = None if one_more is None else self._number(one_more)
        if one_more is None or other is None or other[0] != 1:
            return None
        inner = self._maker(one_more.input[other[1]], "Exp")
        if inner is None:
            return None
        if power is not None and inner.output[0] == top:
            return _leaf("sigmoid", power.input[0], None)
        negated = self._negated(inner.input[0])
        is_one = top is None or _equals(self._graph.constant(top), 1)
        return _leaf("sigmoid", negated, None) if is_one and negated is not None else None

    def _unshifted(self, name: str) -> str:
        """x of x - max(x)."""
        shift = self._maker(name, "Sub")
        largest = None if shift is None else self._maker(shift.input[1], "ReduceMax")
        return shift.input[0] if shift is not None and largest and largest.input[0] == shift.input[0] else name

    def _is_log_sum(self, name: str, scores: str) -> bool:
        whole = self._maker(name, "ReduceLogSumExp")
        if whole is not None:
            return whole.input[0] == scores
        log = self._maker(name, "Log")
        total = None if log is None else self._maker(log.input[0], "ReduceSum")
        power = None if total is None else self._maker(total.input[0], "Exp")
        return power is not None and power.input[0] == scores

    def _negated(self, name: str) -> str | None:
        node = self._graph.producers.get(name)
        if node is None:
            return None
        if node.op_type == "Neg":
            return node.input[0]
        number = self._number(node) if node.op_type == "Mul" else None
        return node.input[number[1]] if number is not None and number[0] == -1 else None

    # -- behind f

    def _quantised(self, node: NodeProto, left: int) -> Origin | None:
        scale = self._graph.constant(node.input[1])
        zero = self._graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(())
        inner = self.origin(node.input[0], left)
        if inner is None or scale is None or zero is None or scale.size != 1 or zero.size != 1:
            return None
        step, zero_point = float(scale.reshape(())), float(zero.reshape(()))
        if node.op_type == "QuantizeLinear":
            affine = {"factor": inner.factor / step, "offset": inner.offset / step + zero_point}
        else:
            affine = {"factor": inner.factor * step, "offset": (inner.offset - zero_point) * step}
        return replace(inner, **affine, exact=False, direct=False)

    def _scaled(self, node: NodeProto, left: int) -> Origin | None:
        """Sums and products with one number; 1 - p of a sigmoid is the sigmoid of the negated scores."""
        if node.op_type == "Neg":
            number, position = -1.0, 0
        else:
            found = self._number(node)
            if found is None:
                return None
            number, position = found
        inner = self.origin(node.input[position], left)
        if inner is None:
            return None
        if node.op_type in ("Mul", "Neg"):
            factor, offset = inner.factor * number, inner.offset * number
        elif node.op_type == "Div":
            if position == 1 or not number:
                return None
            factor, offset = inner.factor / number, inner.offset / number
        elif node.op_type == "Add" or position == 0:
            factor, offset = inner.factor, inner.offset + (number if node.op_type == "Add" else -number)
        else:
            factor, offset = -inner.factor, number - inner.offset
        made = replace(inner, factor=factor, offset=offset, direct=inner.direct and (factor, offset) == (1, 0))
        if inner.kind == "sigmoid" and factor < 0:
            return replace(
                made, factor=-factor, offset=factor + offset, direct=False, scores=lambda e: -inner.scores(e)
            )
        return made

    def _shared_out(self, node: NodeProto, left: int) -> Origin | None:
        """p / sum(p): of chosen columns of a softmax it is their own softmax."""
        total = self._maker(node.input[1], "ReduceSum")
        inner = self.origin(node.input[0], left)
        if total is None or inner is None or total.input[0] != node.input[0] or inner.offset or inner.kind[:3] == "log":
            return None
        return replace(inner, kind="softmax", factor=1.0, direct=False, exact=False)

    def _moved(self, name: str, node: NodeProto, left: int) -> Origin | None:
        inner = self.origin(node.input[0], left)
        if inner is None:
            return None
        before, after = self._graph.shape(node.input[0]), self._graph.shape(name)
        if node.op_type == "Transpose":
            order = list(attribute(node, "perm", range(len(before or ()))[::-1]))
            axis = None if inner.axis is None else order.index(inner.axis)
        else:
            axis = _followed(before, inner.axis, after)
        return replace(inner, axis=axis, scores=_repeated(node, [inner]))

    def _chosen(self, name: str, node: NodeProto, left: int) -> Origin | None:
        if self._graph.constant(node.input[0]) is not None:
            return None
        inner = self.origin(node.input[0], left)
        if inner is None:
            return None
        before, after = self._graph.shape(node.input[0]), self._graph.shape(name)
        whole = before == after and (node.op_type in ("Slice", "Split") or self._is_order(node))
        same_classes = (
            inner.axis is not None
            and before is not None
            and after is not None
            and (len(before) == len(after) and before[inner.axis] == after[inner.axis] and before[inner.axis] != 1)
        )
        exact = inner.exact and (inner.kind[-7:] == "sigmoid" or whole or (same_classes and node.op_type != "Gather"))
        axis = inner.axis if before is not None and after is not None and len(before) == len(after) else None
        scores = _repeated(node, [inner], position=list(node.output).index(name))
        return replace(inner, axis=axis, scores=scores, exact=exact, direct=False)

    def _is_order(self, node: NodeProto) -> bool:
        order = self._graph.constant(node.input[1])
        return order is not None and sorted(order.reshape(-1).tolist()) == list(range(order.size))

    def _joined(self, node: NodeProto, left: int) -> Origin | None:
        parts: list[Origin] = []
        for source in node.input:
            part = self.origin(source, left)
            if part is None:
                return None
            parts.append(part)
        first = parts[0]
        if any(part.kind != first.kind for part in parts):
            return None
        leaves = frozenset().union(*(part.leaves for part in parts))
        made = replace(first, leaves=leaves, direct=False)
        if node.op_type == "Concat":
            affine = {(part.factor, part.offset) for part in parts}
            exact = first.kind == "sigmoid" and all(part.exact for part in parts)
            axis = first.axis if all(part.axis == first.axis for part in parts) else None
            same = len(affine) == 1
            return replace(made, scores=_repeated(node, parts), exact=exact, axis=axis) if same else None
        # The sum of columns of one softmax is a coarser class, not a mean of views.
        total = sum(part.factor for part in parts)
        if len(leaves) < sum(len(part.leaves) for part in parts) or min(part.factor for part in parts) <= 0:
            return None

        def mean(emitter: Emitter) -> Value:
            shares = [part.scores(emitter) * (part.factor / total) for part in parts]
            return functools.reduce(operator.add, shares)

        count = len(parts) if node.op_type == "Mean" else 1
        offset = sum(part.offset for part in parts) / count
        return replace(made, scores=mean, factor=total / count, offset=offset, exact=False)

    def _reduced(self, node: NodeProto, left: int) -> Origin | None:
        """The mean (or sum) over views; over the classes themselves it is nothing of the kind."""
        inner = self.origin(node.input[0], left)
        shape = self._graph.shape(node.input[0])
        pooling = node.op_type == "GlobalAveragePool"
        axes = list(range(2, len(shape or ()))) if pooling else self._graph.integers(node, "axes", 1)
        if inner is None or shape is None or not axes:
            return None
        axes = [axis % len(shape) for axis in axes]
        sizes = [shape[axis] for axis in axes]
        if 0 in axes or inner.axis in axes or (inner.axis is None and inner.kind != "sigmoid"):
            return None
        if not all(isinstance(size, int) for size in sizes):
            return None
        count = math.prod(int(size or 1) for size in sizes) if node.op_type == "ReduceSum" else 1
        axis = inner.axis
        if axis is not None and not attribute(node, "keepdims", 1):
            axis -= sum(gone < axis for gone in axes)
        repeated = _repeated(node, [inner])
        return replace(
            inner,
            axis=axis,
            scores=lambda e: repeated(e) * (1 / count),
            factor=inner.factor * count,
            offset=inner.offset * count,
            exact=False,
            direct=False,
        )

    # -- asking the graph

    def _maker(self, name: str, kind: str) -> NodeProto | None:
        """The node of this kind that makes a value; copies and casts are looked through."""
        node = self._graph.producers.get(name)
        while node is not None and node.op_type in _KEEPING:
            node = self._graph.producers.get(node.input[0])
        return node if node is not None and node.op_type == kind else None

    def _number(self, node: NodeProto) -> tuple[float, int] | None:
        """(the one number among two inputs, the place of the other input)."""
        if len(node.input) != 2:
            return None
        for position, name in enumerate(node.input):
            array = self._graph.constant(name)
            if array is not None and array.size == 1:
                return float(array.reshape(())), 1 - position
        return None

    def _axis_of(self, node: NodeProto) -> int | None:
        axes = self._graph.integers(node, "axes", 1)
        rank = len(self._graph.shape(node.input[0]) or ())
        return axes[0] % rank if axes and len(axes) == 1 and rank else None

    def _last_axis(self, name: str) -> int | None:
        return len(self._graph.shape(name) or ()) - 1 if self._graph.shape(name) else None


def _leaf(kind: Kind, source: str, axis: int | None) -> Origin:
    return Origin(kind, lambda e: e.value(source), source, frozenset([source]), axis)


def _through_logarithm(kind: str, inner: Origin | None) -> Origin | None:
    """log(softmax), and exp of it."""
    if inner is None or inner.factor != 1 or abs(inner.offset) > 1e-3:  # log(p + 1e-8) is one
        return None
    pairs: dict[str, dict[str, Kind]] = {
        "Log": {"softmax": "log-softmax", "sigmoid": "log-sigmoid"},
        "Exp": {"log-softmax": "softmax", "log-sigmoid": "sigmoid"},
    }
    through = pairs[kind].get(inner.kind)
    return None if through is None else replace(inner, kind=through, offset=0.0, direct=False)


def _repeated(node: NodeProto, parts: Sequence[Origin], position: int = 0) -> Callable[[Emitter], Value]:
    """What writes `node` once more, on the scores of its parts."""

    def write(emitter: Emitter) -> Value:
        inputs = [part.scores(emitter) for part in parts]
        others = [emitter.value(name) if name else None for name in node.input[len(parts) :]]
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if len(node.output) > 1:
            return emitter.many(node.op_type, *inputs, *others, outputs=len(node.output), **given)[position]
        return emitter(node.op_type, *inputs, *others, **given)

    return write


def _followed(before: Shape | None, axis: int | None, after: Shape | None) -> int | None:
    """Where an axis is after a reshape: as long as before, with as many elements behind it."""
    if before is None or after is None or axis is None:
        return None
    behind = before[axis + 1 :]
    if not all(isinstance(size, int) for size in (*behind, before[axis])):
        return None
    wanted = math.prod(int(size or 0) for size in behind)
    for place in range(len(after)):
        rest = after[place + 1 :]
        same = all(isinstance(size, int) for size in rest) and math.prod(int(size or 0) for size in rest) == wanted
        if same and after[place] == before[axis]:
            return place
    return None


def _equals(array: np.ndarray | None, number: float) -> bool:
    return array is not None and array.size == 1 and float(array.reshape(())) == number
