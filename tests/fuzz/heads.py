"""Random heads behind a network's features, and what is right about each: its scores and its probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto

from .graph_building import Building

__all__ = ["Head", "head"]

Values = dict[str, Any]


@dataclass
class Head:
    """What a head is.

    outputs: of the model. scores: from all values to what is differentiated, (N, K). shown: to the probabilities
    (N, K), of a regression to its values. options: what the export has to be told. rounded: by how much probabilities
    may differ because a value that is about to be rounded falls to the other side. name: for people.
    """

    name: str
    outputs: list[str]
    scores: Callable[[Values], Any]
    shown: Callable[[Values], Any]
    options: dict[str, Any] = field(default_factory=dict)
    rounded: float = 1e-4


def head(b: Building, features: str) -> Head:
    """Nodes from features (N, D) to the outputs."""
    return b.chance.choice(_HEADS)(b, features)


def _softmax(values: Any) -> Any:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def _linear(b: Building, x: str, classes: int) -> str:
    """Scores (N, classes), spread so that probabilities are neither all alike nor 0 and 1."""
    values = b.values[x]
    spread = float((values - values.mean(0)).std()) or 1.0
    scale = b.chance.choice([0.7, 1.5]) / (spread * np.sqrt(values.shape[1]))
    weight, bias = b.weight(values.shape[1], classes, scale=scale), b.weight(classes, scale=0.3)
    if b.chance.random() < 0.5:
        return b("Gemm", x, weight, bias)
    return b("Add", b("MatMul", x, weight), bias)


class _Behind:
    """What people put behind probabilities (or their logarithms): `columns` of the scores and a `factor` are left."""

    def __init__(self, b: Building, x: str, low: float, high: float) -> None:
        self.b, self.out, self.bounds = b, x, (low, high)
        self.columns = list(range(b.values[x].shape[1]))
        self.factor, self.rounded = 1.0, 1e-4
        steps = [
            self._pair, self._clip, self._times, self._cast, self._identity, self._reshaped, self._sliced,
            self._gathered, self._pieces, self._turned,
        ]  # fmt: skip
        for _ in range(b.chance.choice([0, 1, 1, 2, 3])):
            b.chance.choice(steps)()

    def _pair(self) -> None:
        self.out = self.b.pair(self.out, (self.bounds[0] * self.factor, self.bounds[1] * self.factor))
        self.rounded += 1.01 * (self.bounds[1] - self.bounds[0]) / 255

    def _clip(self) -> None:
        low, high = (bound * self.factor for bound in self.bounds)
        edge = self.b.chance.choice([0.0, 1e-6]) * self.factor
        self.out = self.b("Clip", self.out, self.b.number(low + edge), self.b.number(high - edge))

    def _times(self) -> None:
        number = self.b.chance.choice([100.0, 0.5, 255.0])
        kind = self.b.chance.choice(["Mul", "Div"])
        inputs = [self.out, self.b.number(number)]
        self.out = self.b(kind, *(inputs[::-1] if kind == "Mul" and self.b.chance.random() < 0.3 else inputs))
        self.factor *= number if kind == "Mul" else 1 / number

    def _cast(self) -> None:
        self.out = self.b("Cast", self.b("Cast", self.out, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)
        self.rounded += 2e-3

    def _identity(self) -> None:
        self.out = self.b("Identity", self.out)

    def _reshaped(self) -> None:
        count = len(self.columns)
        wide = self.b(
            "Reshape", self.out, self.b.ints(-1, *self.b.chance.choice([(count, 1, 1), (1, count), (count, 1)]))
        )
        self.out = (
            self.b("Flatten", wide) if self.b.chance.random() < 0.5 else self.b("Reshape", wide, self.b.ints(-1, count))
        )

    def _sliced(self) -> None:
        if len(self.columns) < 4:
            return
        start, end = self.b.chance.choice(
            [(1, len(self.columns)), (0, len(self.columns) - 1), (1, len(self.columns) - 1)]
        )
        self.out = self.b("Slice", self.out, self.b.ints(start), self.b.ints(end), self.b.ints(1))
        self.columns = self.columns[start:end]

    def _gathered(self) -> None:
        order = self.b.chance.sample(
            range(len(self.columns)), self.b.chance.choice([len(self.columns), max(2, len(self.columns) - 1)])
        )
        self.out = self.b("Gather", self.out, self.b.ints(*order), axis=1)
        self.columns = [self.columns[i] for i in order]

    def _pieces(self) -> None:
        first = len(self.columns) // 2
        pieces = self.b("Split", self.out, self.b.ints(first, len(self.columns) - first), axis=1, count=2)
        if self.b.chance.random() < 0.5:
            self.out, parts = self.b("Concat", *pieces[::-1], axis=1), (self.columns[first:], self.columns[:first])
        else:
            self.out, parts = self.b("Concat", *pieces, axis=1), (self.columns[:first], self.columns[first:])
        self.columns = [*parts[0], *parts[1]]

    def _turned(self) -> None:
        self.out = self.b("Transpose", self.b("Transpose", self.out, perm=[1, 0]), perm=[1, 0])


def _further(b: Building, outputs: list[str], shown: str) -> list[str]:
    """Now and then a decision beside the scores, or a ranking in their place."""
    way = b.chance.random()
    if way < 0.15:
        return [*outputs, b("ArgMax", shown, axis=1, keepdims=0)]
    if way < 0.25:
        return list(b("TopK", shown, b.ints(2), axis=1, count=2))
    return outputs


def _plain_logits(b: Building, x: str) -> Head:
    raw = out = _linear(b, x, b.chance.choice([3, 5]))
    if b.quantised:
        out = b.pair(out)
    match way := b.chance.randrange(6):
        case 0:
            out = b("Mul", out, b.number(b.chance.choice([2.0, 0.25])))
        case 1:
            out = b("Clip", out, b.number(-50.0), b.number(50.0))
        case 2:
            out = b("Cast", b("Cast", out, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)
        case 3:
            out = b("Squeeze", b("Unsqueeze", out, b.ints(2)), b.ints(2))
        case 4:
            order = b.chance.sample(range(b.values[out].shape[1]), b.values[out].shape[1])
            out = b("Gather", out, b.ints(*order), axis=1)
    many = b.chance.random() < 0.2
    # Quantisers right behind the scores do not end the gradient where their range ends.
    score = raw if way in (2, 3, 5) else out
    return Head(
        "logits",
        _further(b, [out], out),
        lambda v: v[score],
        lambda v: (_sigmoid if many else _softmax)(v[out]),
        {"multi_label": True} if many else {},
        2e-3,
    )


def _softmax_head(b: Building, x: str) -> Head:
    z = _linear(b, x, b.chance.choice([3, 5]))
    way = b.chance.choice(["Softmax", "written", "shifted", "planes"])
    if way == "Softmax":
        p = b("Softmax", z, axis=b.chance.choice([-1, 1]))
    elif way == "planes":
        planes = b("Softmax", b("Reshape", z, b.ints(0, -1, 1, 1)), axis=1)
        p = b("Flatten", planes)
    else:
        shifted = b("Sub", z, b.reduce("ReduceMax", z, [1], 1)) if way == "shifted" else z
        power = b("Exp", shifted)
        p = b("Div", power, b.reduce("ReduceSum", power, [-1], 1))
    last = _Behind(b, p, 0.0, 1.0)
    return Head(
        f"softmax, {way}",
        _further(b, [last.out], last.out),
        lambda v: v[z][:, last.columns],
        lambda v: v[last.out] / last.factor,
        rounded=last.rounded,
    )


def _sigmoid_head(b: Building, x: str) -> Head:
    z = _linear(b, x, b.chance.choice([2, 3, 5]))
    way = b.chance.choice(["Sigmoid", "written", "complement"])
    sign = 1.0
    if way == "Sigmoid":
        p = b("Sigmoid", z)
    elif way == "written":
        p = b("Div", b.number(1.0), b("Add", b("Exp", b("Neg", z)), b.number(1.0)))
    else:
        p, sign = b("Sub", b.number(1.0), b("Sigmoid", z)), -1.0
    last = _Behind(b, p, 0.0, 1.0)
    return Head(
        f"sigmoid, {way}",
        [last.out],
        lambda v: sign * v[z][:, last.columns],
        lambda v: v[last.out] / last.factor,
        rounded=last.rounded,
    )


def _logarithms(b: Building, x: str) -> Head:
    z = _linear(b, x, b.chance.choice([3, 5]))
    way = b.chance.choice(["LogSoftmax", "written"])
    if way == "LogSoftmax":
        p = b("LogSoftmax", z, axis=b.chance.choice([-1, 1]))
    else:
        p = b("Sub", z, b("Log", b.reduce("ReduceSum", b("Exp", z), [1], 1)))
    last = _Behind(b, p, -20.0, 0.0)
    return Head(
        f"log-softmax, {way}",
        [last.out],
        lambda v: v[z][:, last.columns],
        lambda v: np.exp(v[last.out] / last.factor),
        rounded=last.rounded,
    )


def _one_logit(b: Building, x: str) -> Head:
    z = _linear(b, x, 1)
    way = b.chance.choice(["logit", "flat", "sigmoid", "flat sigmoid", "both", "rounded sigmoid", "half sigmoid"])
    out = z if way in ("logit", "flat") else b("Sigmoid", z)
    if way.startswith("flat"):
        out = b("Squeeze", out, b.ints(1))
    if way == "both":
        out = b("Concat", b("Sub", b.number(1.0), out), out, axis=1)
    if way == "rounded sigmoid":
        out = b.pair(out, (0.0, 1.0))
    if way == "half sigmoid":
        out = b("Cast", b("Cast", out, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)
    is_logit = way in ("logit", "flat")

    def yes(values: Values) -> Any:
        column = values[out].reshape(len(values[z]), -1)[:, -1:]
        return _sigmoid(column) if is_logit else column

    return Head(
        f"one logit, {way}",
        [out],
        lambda v: np.concatenate([-v[z], v[z]], axis=1),
        lambda v: np.concatenate([1 - yes(v), yes(v)], axis=1),
        rounded=0.005 if way in ("rounded sigmoid", "half sigmoid") else 1e-4,
    )


def _regression(b: Building, x: str) -> Head:
    z = _linear(b, x, b.chance.choice([1, 1, 2, 3]))
    way = b.chance.choice(["linear", "sigmoid", "years", "rounded"])
    if way == "sigmoid":
        z = b("Sigmoid", z)
    elif way == "years":
        z = b("Add", b("Mul", z, b.number(20.0)), b.number(40.0))
    out = b.pair(z) if way == "rounded" else z
    return Head(
        f"regression, {way}",
        [out],
        lambda v: np.concatenate([v[z], -v[z]], axis=1),
        lambda v: v[out],
        {"score_kind": "regression"},
    )


def _average(b: Building, x: str) -> Head:
    """The mean of the answers of several heads: the score is the mean of their logits."""
    classes, count = b.chance.choice([3, 5]), b.chance.choice([2, 3])
    kind = b.chance.choice(["Softmax", "Sigmoid"])
    views = [_linear(b, x, classes) for _ in range(count)]
    parts = [b(kind, z) for z in views]
    way = b.chance.choice(["sum", "stacked"])
    if way == "stacked":
        stacked = b("Concat", *(b("Unsqueeze", p, b.ints(1)) for p in parts), axis=1)
        p = b.reduce("ReduceMean", stacked, [1], 0)
    else:
        total = parts[0]
        for part in parts[1:]:
            total = b("Add", total, part)
        p = b("Div", total, b.number(float(count)))
    last = _Behind(b, p, 0.0, 1.0)
    return Head(
        f"average, {kind}, {way}",
        [last.out],
        lambda v: np.mean([v[z] for z in views], axis=0)[:, last.columns],
        lambda v: v[last.out] / last.factor,
        rounded=last.rounded,
    )


_HEADS = [
    _plain_logits, _plain_logits, _softmax_head, _softmax_head, _softmax_head, _sigmoid_head, _logarithms, _one_logit,
    _regression, _average,
]  # fmt: skip
