"""Sums, differences, products and quotients of two values; and operators that only move values."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from ...export.graph import attribute
from .activations import gated_hard_sigmoid, gated_sigmoid
from .registry import Bounds, Context, rule

__all__: list[str] = []


@rule("Add", "Sub")
def add(c: Context) -> Bounds:
    a, b = c.x(0), c.x(1)
    if c.node.op_type == "Sub":
        b = Bounds(-b.high, -b.low, b.terms)
    # An engine may start the sum of a convolution from the other summand.
    terms = max(a.terms, b.terms) + 1
    return c.rounded(a.low + b.low, a.high + b.high, c.gamma(terms) * (a.size + b.size), terms)


@rule("Neg")
def negate(c: Context) -> Bounds:
    x = c.x()
    return Bounds(-x.high, -x.low, x.terms)


@rule("Mul")
def multiply(c: Context) -> Bounds:
    """Products of the ends; x * sigmoid(x), x * hard_sigmoid(x) and x * x by their own shape."""
    for x, gate in ((0, 1), (1, 0)):
        maker = c.makers[gate]
        if isinstance(c.inputs[x], Bounds) and maker is not None and maker.input[0] == c.node.input[x]:
            gated = _gated(c, c.x(x), maker)
            if gated is not None:
                return gated
    a, b = c.x(0), c.x(1)
    if c.node.input[0] == c.node.input[1]:
        low = np.maximum(np.maximum(a.low, -a.high), 0) ** 2
        return c.rounded(low, a.size**2, c.gamma(2) * a.size**2)
    return _product(c, a, b)


def _gated(c: Context, x: Bounds, gate: NodeProto) -> Bounds | None:
    if gate.op_type == "Sigmoid":
        return gated_sigmoid(c, x, 1.0)
    if gate.op_type == "HardSigmoid":
        alpha, beta = attribute(gate, "alpha", 0.2), attribute(gate, "beta", 0.5)
        if alpha > 0 and 0 < beta < 2:
            return gated_hard_sigmoid(c, x, alpha, beta)
    return None


@rule("Div")
def divide(c: Context) -> Bounds:
    divisor = c.constant(1)
    if not divisor.all():
        c.fail("it divides by zero")
    return _product(c, c.x(0), Bounds(1 / divisor, 1 / divisor, 2))


def _product(c: Context, a: Bounds, b: Bounds) -> Bounds:
    corners = [p * q for p in (a.low, a.high) for q in (b.low, b.high)]
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    # A constant factor may be folded into the weights of the convolution before.
    terms = max(a.terms, b.terms) + 2
    return c.rounded(low, high, c.gamma(terms) * np.maximum(np.abs(low), np.abs(high)), terms)


@rule(
    "Concat",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
def moving(c: Context) -> list[Bounds]:
    """The same is done to both ends."""
    used = [value if isinstance(value, Bounds) else None for value in c.inputs]
    rest = [None if value is None or used[i] is not None else c.constant(i) for i, value in enumerate(c.inputs)]
    ends = [
        c.evaluate(*(getattr(b, end) if b is not None else rest[i] for i, b in enumerate(used)))
        for end in ("low", "high")
    ]
    terms = max(b.terms for b in used if b is not None)
    return [Bounds(low, high, terms) for low, high in zip(*ends, strict=True)]


@rule("Cast")
def cast(c: Context) -> Bounds:
    """To float32, which everything is in already, or wider: nothing is lost."""
    kind = c.attr("to")
    if kind not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        c.fail(f"it casts to {TensorProto.DataType.Name(kind)}, where float32 was expected")
    return c.x()
