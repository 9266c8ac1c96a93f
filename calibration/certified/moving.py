"""Operators that only move values: the same is done to both ends."""

from __future__ import annotations

from onnx import TensorProto

from .registry import Bounds, Context, rule

__all__: list[str] = []


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
    used = [value if isinstance(value, Bounds) else None for value in c.inputs]
    rest = [None if value is None or used[i] is not None else c.constant(i) for i, value in enumerate(c.inputs)]
    ends = []
    for end in ("low", "high"):
        ends.append(c.evaluate(*(getattr(b, end) if b is not None else rest[i] for i, b in enumerate(used))))
    terms = max(b.terms for b in used if b is not None)
    return [Bounds(low, high, terms) for low, high in zip(*ends, strict=True)]


@rule("Cast")
def cast(c: Context) -> Bounds:
    """To float32, which everything is in already, or wider: nothing is lost."""
    kind = c.attr("to")
    if kind not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        c.fail(f"it casts to {TensorProto.DataType.Name(kind)}, where float32 was expected")
    return c.x()
