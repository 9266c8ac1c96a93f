"""Arithmetic and other elementwise operators with numpy broadcasting."""

from __future__ import annotations

import math

from ..emitter import Value
from ..registry import Context, Gradients, rule

__all__: list[str] = []


@rule("Add", broadcasting=True)
def add(c: Context) -> Gradients:
    return {0: c.g, 1: c.g}


@rule("Sub", broadcasting=True)
def sub(c: Context) -> Gradients:
    return {0: c.g, 1: lambda: -c.g}


@rule("Mul", broadcasting=True)
def mul(c: Context) -> Gradients:
    if c.node.input[0] == c.node.input[1]:
        return {0: lambda: c.g * c.x() * 2}
    return {0: lambda: c.g * c.x(1), 1: lambda: c.g * c.x(0)}


@rule("Div", broadcasting=True)
def div(c: Context) -> Gradients:
    return {0: lambda: c.g / c.x(1), 1: lambda: -(c.g * c.y() / c.x(1))}


@rule("Pow", broadcasting=True)
def power(c: Context) -> Gradients:
    """d/dx = p * x^(p-1); d/dp = y * log(x), taken as 0 where x is not positive."""

    def base() -> Value:
        exponent = c.constant(1)
        if exponent is not None and exponent.size == 1:
            p = float(exponent.reshape(-1)[0])
            if p == 0.5:
                return c.g * 0.5 / c.y()
            return c.g * (c.x() if p == 2 else c.x() ** (p - 1)) * p
        p = c.e.cast(c.x(1), c.g.kind)
        return c.g * p * c.x() ** (p - 1)

    def exponent() -> Value:
        positive = c.x() > 0
        return c.g * c.y() * c.e("Log", c.e.where(positive, c.x(), 1.0))

    return {0: base, 1: exponent}


@rule("Sqrt")
def sqrt(c: Context) -> Gradients:
    return {0: c.g * 0.5 / c.y()}


@rule("Exp")
def exp(c: Context) -> Gradients:
    return {0: c.g * c.y()}


@rule("Log")
def log(c: Context) -> Gradients:
    return {0: c.g / c.x()}


@rule("Neg")
def neg(c: Context) -> Gradients:
    return {0: -c.g}


@rule("Abs")
def absolute(c: Context) -> Gradients:
    """0 at 0, as in PyTorch."""
    return {0: c.g * c.e("Sign", c.x())}


@rule("Reciprocal")
def reciprocal(c: Context) -> Gradients:
    return {0: -(c.g * c.y() * c.y())}


@rule("Sum", broadcasting=True)
def total(c: Context) -> Gradients:
    return dict.fromkeys(range(len(c.node.input)), c.g)


@rule("Mean", broadcasting=True)
def mean(c: Context) -> Gradients:
    share = c.g * (1.0 / len(c.node.input))
    return dict.fromkeys(range(len(c.node.input)), share)


@rule("Max", "Min", broadcasting=True)
def extremum(c: Context) -> Gradients:
    """Inputs that tie share the gradient equally, as in PyTorch's maximum and minimum."""
    count = len(c.node.input)
    if count == 1:
        return {0: c.g}
    hits = [c.e.cast(c.x(i).equals(c.y()), c.g.kind) for i in range(count)]
    share = c.g / sum(hits[1:], hits[0])
    return {i: share * hit for i, hit in enumerate(hits)}


@rule("Where", broadcasting=True)
def where(c: Context) -> Gradients:
    return {1: lambda: c.e.masked(c.x(0), c.g), 2: lambda: c.e.masked(~c.x(0), c.g)}


@rule("Erf")
def erf(c: Context) -> Gradients:
    return {0: c.g * c.e("Exp", -(c.x() * c.x())) * (2 / math.sqrt(math.pi))}


@rule("Sin")
def sin(c: Context) -> Gradients:
    return {0: c.g * c.e("Cos", c.x())}


@rule("Cos")
def cos(c: Context) -> Gradients:
    return {0: -(c.g * c.e("Sin", c.x()))}


@rule("Tan")
def tan(c: Context) -> Gradients:
    return {0: c.g * (c.y() * c.y() + 1)}


@rule("Sinh")
def sinh(c: Context) -> Gradients:
    return {0: c.g * c.e("Cosh", c.x())}


@rule("Cosh")
def cosh(c: Context) -> Gradients:
    return {0: c.g * c.e("Sinh", c.x())}


@rule("Asin")
def asin(c: Context) -> Gradients:
    return {0: c.g / c.e("Sqrt", 1 - c.x() * c.x())}


@rule("Acos")
def acos(c: Context) -> Gradients:
    return {0: -(c.g / c.e("Sqrt", 1 - c.x() * c.x()))}


@rule("Atan")
def atan(c: Context) -> Gradients:
    return {0: c.g / (c.x() * c.x() + 1)}


@rule("Asinh")
def asinh(c: Context) -> Gradients:
    return {0: c.g / c.e("Sqrt", c.x() * c.x() + 1)}


@rule("Acosh")
def acosh(c: Context) -> Gradients:
    return {0: c.g / c.e("Sqrt", c.x() * c.x() - 1)}


@rule("Atanh")
def atanh(c: Context) -> Gradients:
    return {0: c.g / (1 - c.x() * c.x())}


@rule("Mod", broadcasting=True)
def mod(c: Context) -> Gradients:
    """The remainder moves with the dividend; the divisor is taken as fixed."""
    if 1 in c.wanted:
        c.fail("its divisor depends on the layer")
    return {0: c.g}


@rule("Floor", "Ceil", "Round", "Sign")
def steps(c: Context) -> Gradients:
    """Constant almost everywhere: no gradient."""
    return {}
