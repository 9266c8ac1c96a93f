"""Writing nodes into a graph as if they were array expressions.

`Emitter` creates nodes with unique names, infers their shapes at once, shares identical
sub-expressions (with the forward pass too) and folds what is constant and small. `Value` is
a name with a type and a shape, with operators: a rule reads like its formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import NodeProto, TensorProto, helper

from ...runtime.errors import CfcamError
from ..errors import ExportError
from ..graph import Graph, Shape
from ..graph.folding import FOLD_LIMIT, evaluate_node
from ..graph.graph import Dim, type_of
from ..graph.pruning import node_key
from ..wording import first_line

__all__ = ["Emitter", "OneHot", "Value", "infer_node"]

Number = int | float


class Value:
    """A value of the graph. shape: dims (int, symbol or None), or None for an unknown rank."""

    def __init__(self, emitter: Emitter, name: str, kind: int, shape: Shape | None) -> None:
        self.emitter, self._name, self.kind, self.shape = emitter, name, kind, shape

    @property
    def name(self) -> str:
        return self._name

    @property
    def rank(self) -> int:
        if self.shape is None:
            raise ExportError(
                f"the rank of value '{self.name}' is unknown: run ONNX shape inference on the model first"
            )
        return len(self.shape)

    @property
    def dims(self) -> Shape:
        """The shape, with `ExportError` where the rank is unknown."""
        self.rank  # noqa: B018 - raises
        assert self.shape is not None
        return self.shape

    @property
    def dtype(self) -> np.dtype:
        return helper.tensor_dtype_to_np_dtype(self.kind)

    def _with(self, op: str, other: Value | Number, *, swap: bool = False) -> Value:
        other = self.emitter.as_value(other, self.kind)
        return self.emitter(op, other, self) if swap else self.emitter(op, self, other)

    def __add__(self, other: Value | Number) -> Value:
        return self if _is(other, 0) else self._with("Add", other)

    __radd__ = __add__

    def __sub__(self, other: Value | Number) -> Value:
        return self if _is(other, 0) else self._with("Sub", other)

    def __rsub__(self, other: Number) -> Value:
        return self._with("Sub", other, swap=True)

    def __mul__(self, other: Value | Number) -> Value:
        if _is(other, 1):
            return self
        return -self if _is(other, -1) else self._with("Mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Value | Number) -> Value:
        return self if _is(other, 1) else self._with("Div", other)

    def __rtruediv__(self, other: Number) -> Value:
        return self.emitter("Reciprocal", self) if other == 1 else self._with("Div", other, swap=True)

    def __pow__(self, other: Value | Number) -> Value:
        if _is(other, 1):
            return self
        return self * self if _is(other, 2) else self._with("Pow", other)

    def __neg__(self) -> Value:
        return self.emitter("Neg", self)

    def __gt__(self, other: Value | Number) -> Value:
        return self._with("Greater", other)

    def __lt__(self, other: Value | Number) -> Value:
        return self._with("Less", other)

    def equals(self, other: Value | Number) -> Value:
        return self._with("Equal", other)

    def __and__(self, other: Value) -> Value:
        return self.emitter("And", self, other)

    def __or__(self, other: Value) -> Value:
        return self.emitter("Or", self, other)

    def __invert__(self) -> Value:
        return self.emitter("Not", self)

    def __repr__(self) -> str:
        return f"Value({self._name!r}, {self.shape})"


class OneHot(Value):
    """The seed of the backward pass: 1 at the chosen class, 0 elsewhere, not yet written.

    shape: (N, K), possibly with axes of 1 put between or behind; axis: where the classes are.
    Rules that know it gather a row of their weight by `classes` (int64 (N,)); for all others
    asking for its name writes it, by Equal.
    """

    def __init__(self, emitter: Emitter, classes: Value, kind: int, shape: Shape, axis: int = 1) -> None:
        super().__init__(emitter, "", kind, shape)
        self.classes, self.axis = classes, axis

    @property
    def name(self) -> str:
        if not self._name:
            emitter, size, rank = self.emitter, self.dims[self.axis], self.rank
            if not isinstance(size, int):
                raise ExportError("the number of classes must be known to seed the backward pass")
            numbers = np.arange(size, dtype=np.int64).reshape([-1 if a == self.axis else 1 for a in range(rank)])
            rows = emitter.unsqueeze(self.classes, list(range(1, rank)))
            self._name = emitter.cast(emitter("Equal", rows, emitter.constant(numbers)), self.kind).name
        return self._name

    def with_shape(self, shape: Shape) -> OneHot | None:
        """The same seed at another shape, or None where its classes are not one axis of that."""
        size = self.dims[self.axis]
        wide = [a for a, d in enumerate(shape) if a and d != 1]
        if len(shape) < 2 or len(wide) > 1 or size != (shape[wide[0]] if wide else 1):
            return None
        if isinstance(shape[0], int) and isinstance(self.dims[0], int) and shape[0] != self.dims[0]:
            return None  # classes in the place of the batch
        return OneHot(self.emitter, self.classes, self.kind, shape, wide[0] if wide else 1)

    def transposed(self, order: Sequence[int]) -> OneHot | None:
        """The same seed with its axes in another order, or None where the batch moves."""
        if order[0] != 0:
            return None
        shape = tuple(self.dims[i] for i in order)
        return OneHot(self.emitter, self.classes, self.kind, shape, list(order).index(self.axis))


def _is(value: Any, number: Number) -> bool:
    return isinstance(value, int | float) and value == number


class Emitter:
    """Appends nodes to `graph`. prefix: of the names of what it makes."""

    def __init__(self, graph: Graph, prefix: str = "grad", *, share: bool = True) -> None:
        self.graph, self.prefix = graph, prefix
        self._shared: dict[tuple, list[Value]] = {}
        self._constants: dict[tuple, Value] = {}
        if share:
            for node in graph.nodes:
                key = node_key(node)
                if key is not None and node.domain == "":
                    self._shared.setdefault(key, [self.value(o) for o in node.output if o])

    # -- values

    def value(self, name: str) -> Value:
        """The `Value` of a name that is in the graph."""
        return Value(self, name, self.graph.elem_type(name) or TensorProto.FLOAT, self.graph.shape(name))

    def as_value(self, value: Value | Number, kind: int) -> Value:
        if isinstance(value, Value):
            return value
        return self.constant(np.array(value, dtype=helper.tensor_dtype_to_np_dtype(kind)))

    def constant(self, array: np.ndarray) -> Value:
        """A small constant; equal ones are stored once."""
        array = np.asarray(array)
        key = (array.dtype.str, str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = self.graph.fresh(f"{self.prefix}_const")
            self.graph.add_constant(name, array)
            self._constants[key] = self.value(name)
        return self._constants[key]

    def ints(self, values: Sequence[int]) -> Value:
        return self.constant(np.array(list(values), dtype=np.int64))

    # -- nodes

    def __call__(self, op: str, *inputs: Value | None, shape: Shape | None = None, **attributes: Any) -> Value:
        return self.many(op, *inputs, outputs=1, shapes=[shape], **attributes)[0]

    def many(
        self,
        op: str,
        *inputs: Value | None,
        outputs: int,
        shapes: Sequence[Shape | None] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> list[Value]:
        """Emit a node. None stands for an empty optional input; `shapes` overrides inference."""
        graph = self.graph
        names = [v.name if v is not None else "" for v in inputs]
        node = helper.make_node(op, names, ["?"] * outputs, domain=domain, **attributes)
        key = node_key(node)
        if key in self._shared:
            return self._shared[key]
        folded = self._fold(node)
        if folded is not None:
            made = [self.constant(v) for v in folded]
            if key is not None:
                self._shared[key] = made
            return made
        base = f"{self.prefix}_{op.lower()}"
        node.name = graph.fresh(base)
        for position in range(outputs):
            node.output[position] = graph.fresh(f"{base}_value" if outputs == 1 else f"{base}_value_{position}")
        types = infer_node(graph, node)
        for position, name in enumerate(node.output):
            kind, shape = types.get(name, (inputs[0].kind if inputs and inputs[0] is not None else 1, None))
            if shapes is not None and position < len(shapes) and shapes[position] is not None:
                shape = _merged(shapes[position], shape)
            graph.types[name] = (kind, shape)
        graph.add_node(node)
        made = [self.value(o) for o in node.output]
        if key is not None:
            self._shared[key] = made
        return made

    def _fold(self, node: NodeProto) -> list[np.ndarray] | None:
        graph = self.graph
        if node.domain or not node.input or any(n and n not in graph.constants for n in node.input):
            return None
        arrays = {n: a for n in node.input if n and (a := graph.constant(n)) is not None}
        if sum(a.nbytes for a in arrays.values()) > FOLD_LIMIT:
            return None
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return None
        single = NodeProto()
        single.CopyFrom(node)
        for position in range(len(single.output)):
            single.output[position] = f"out_{position}"
        values = evaluate_node(single, arrays, graph.opset)
        if values is None or sum(v.nbytes for v in values) > FOLD_LIMIT:
            return None
        return values

    # -- shapes

    def shape_of(self, value: Value) -> Value:
        """int64 (rank,): the shape at run time, a constant where it is static."""
        if value.shape is not None and all(isinstance(d, int) for d in value.shape):
            return self.ints([d for d in value.shape if isinstance(d, int)])
        return self("Shape", value)

    def size_of(self, value: Value, axes: Sequence[int]) -> int | Value:
        """Number of elements along `axes`: an int where static, else an int64 scalar value."""
        dims = [value.dims[a] for a in axes]
        if all(isinstance(d, int) for d in dims):
            return math.prod(d for d in dims if isinstance(d, int))
        total: int | Value = 1
        for axis, dim in zip(axes, dims, strict=True):
            if isinstance(dim, int):
                factor: int | Value = dim
            else:
                factor = self("Gather", self("Shape", value), self.constant(np.array(axis, np.int64)), axis=0)
            total = total * factor
        return total

    def target_shape(self, like: Value, dims: Sequence[Dim], axes: Sequence[int]) -> Value:
        """int64 vector for Reshape: `dims`, where unknown ones are read from axis `axes[i]` of `like`."""
        unknown = [i for i, d in enumerate(dims) if not isinstance(d, int)]
        if len(unknown) <= 1:
            return self.ints([d if isinstance(d, int) else -1 for d in dims])
        parts = []
        shape = self("Shape", like)
        for i, dim in enumerate(dims):
            if isinstance(dim, int):
                parts.append(self.ints([dim]))
            else:
                parts.append(self("Gather", shape, self.ints([axes[i]]), axis=0))
        return self("Concat", *parts, axis=0)

    def reshape(self, value: Value, like: Value, dims: Sequence[Dim], axes: Sequence[int] | None = None) -> Value:
        """`value` with shape `dims`; unknown dims are read from `like` (same axes unless given)."""
        if value.shape is not None and tuple(dims) == value.shape and None not in dims:
            return value
        target = self.target_shape(like, dims, axes if axes is not None else range(len(dims)))
        return self("Reshape", value, target, shape=tuple(dims))

    def expand(self, value: Value, like: Value, axes: Sequence[int] | None = None) -> Value:
        """`value` (dims of `like` or 1, same rank) at the full shape of `like`, or on `axes` only."""
        rank = like.rank
        missing = [i for i in (range(rank) if axes is None else axes) if value.dims[i] == 1 and like.dims[i] != 1]
        if not missing:
            return value
        shape = tuple(like.dims[i] if i in missing else value.dims[i] for i in range(rank))
        if all(isinstance(like.dims[i], int) for i in missing):
            target = self.ints([int(like.dims[i] or 0) if i in missing else 1 for i in range(rank)])
        else:
            target = self.shape_of(like)
            if axes is not None:
                mask = self.constant(np.array([i in missing for i in range(rank)]))
                target = self.where(mask, target, self.ints([1] * rank))
        return self("Expand", value, target, shape=shape)

    # -- shorthands

    def cast(self, value: Value, kind: int) -> Value:
        return value if value.kind == kind else self("Cast", value, to=kind)

    def where(self, condition: Value, yes: Value | Number, no: Value | Number) -> Value:
        kind = yes.kind if isinstance(yes, Value) else no.kind if isinstance(no, Value) else TensorProto.FLOAT
        return self("Where", condition, self.as_value(yes, kind), self.as_value(no, kind))

    def masked(self, condition: Value, value: Value) -> Value:
        """`value` where the condition holds, else 0. A product: ONNX Runtime's Where takes four times as long."""
        return value * self.cast(condition, value.kind)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        order = list(order)
        if order == list(range(len(order))):
            return value
        shape = tuple(value.dims[i] for i in order)
        if all(d == 1 for d in shape):
            return value
        return self("Transpose", value, perm=order, shape=shape)

    def unsqueeze(self, value: Value, axes: Sequence[int]) -> Value:
        """axes: in the result, not negative."""
        if not axes:
            return value
        return self("Unsqueeze", value, self.ints(sorted(axes)))

    def squeeze(self, value: Value, axes: Sequence[int]) -> Value:
        if not axes:
            return value
        return self("Squeeze", value, self.ints(sorted(axes)))

    def reduce(self, op: str, value: Value, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """ReduceSum, ReduceMax and so on over `axes` (not negative), in the form that the opset has."""
        axes = sorted(axes)
        if not axes:
            return value
        trivial = op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
        if keepdims and trivial and value.shape is not None and all(value.shape[a] == 1 for a in axes):
            return value
        if op == "ReduceSum" or self.graph.opset >= 18:
            return self(op, value, self.ints(axes), keepdims=int(keepdims))
        return self(op, value, axes=axes, keepdims=int(keepdims))

    def slice(
        self, value: Value, axis: int, start: int | Value, end: int | Value, step: int = 1, length: Dim = None
    ) -> Value:
        """One-axis Slice. `length`: the result's size on the axis, where the caller knows it."""
        shape = None
        if value.shape is not None and length is not None:
            shape = (*value.shape[:axis], length, *value.shape[axis + 1 :])
        return self(
            "Slice", value, self.vector(start), self.vector(end), self.ints([axis]), self.ints([step]), shape=shape
        )

    def flip(self, value: Value, axes: Sequence[int]) -> Value:
        """`value` in reverse order along `axes`."""
        axes = [a for a in axes if value.dims[a] != 1]
        if not axes:
            return value
        count = len(axes)
        lowest = [-(2**31) + 1] * count
        return self(
            "Slice", value, self.ints([-1] * count), self.ints(lowest), self.ints(axes), self.ints([-1] * count),
            shape=value.shape,
        )  # fmt: skip

    def pad(
        self, value: Value, axis: int, before: int | Value, after: int | Value, fill: float = 0.0, length: Dim = None
    ) -> Value:
        """Constant padding of one axis."""
        if _is(before, 0) and _is(after, 0):
            return value
        rank = value.rank
        dims = value.dims
        shape = (*dims[:axis], length, *dims[axis + 1 :]) if length is not None else None
        filling = self.constant(np.array(fill, value.dtype))
        if isinstance(before, int) and isinstance(after, int):
            pads = [0] * (2 * rank)
            pads[axis], pads[rank + axis] = before, after
            return self("Pad", value, self.ints(pads), filling, shape=shape)
        zeros = [self.ints([0] * axis)] if axis else []
        tail = [self.ints([0] * (rank - axis - 1))] if rank - axis - 1 else []
        pads = self("Concat", *zeros, self.vector(before), *tail, *zeros, self.vector(after), *tail, axis=0)
        return self("Pad", value, pads, filling, shape=shape)

    def vector(self, value: int | Value) -> Value:
        """int64 (1,) of a size."""
        if isinstance(value, int):
            return self.ints([value])
        return self("Reshape", value, self.ints([1]), shape=(1,))

    def dim(self, value: Value, axis: int) -> int | Value:
        """Size of one axis: an int where static, else an int64 scalar value."""
        return self.size_of(value, [axis])

    def zeros_like(self, value: Value) -> Value:
        """Zeros of the run-time shape of `value`, as a constant expanded where it is used."""
        return self.expand(self.constant(np.zeros((1,) * value.rank, value.dtype)), value)

    def scaled_by_size(self, value: Value, size: int | Value) -> Value:
        """`value` times a count from `size_of`."""
        if isinstance(size, int):
            return value * size
        return value * self.cast(size, value.kind)

    def divided_by_size(self, value: Value, size: int | Value) -> Value:
        if isinstance(size, int):
            return value * (1.0 / size)
        return value / self.cast(size, value.kind)


def _merged(given: Shape | None, inferred: Shape | None) -> Shape | None:
    """The given shape; where it leaves a dim open, the inferred one."""
    if given is None or inferred is None or len(given) != len(inferred):
        return given if given is not None else inferred
    return tuple(b if a is None else a for a, b in zip(given, inferred, strict=True))


def infer_node(graph: Graph, node: NodeProto) -> dict[str, tuple[int, Shape | None]]:
    """Types of a node's outputs from those of its inputs. Raises `ExportError` where ONNX knows of none."""
    try:
        schema = onnx.defs.get_schema(node.op_type, graph.opset, node.domain)
        types, data = {}, {}
        for name in node.input:
            if not name:
                continue
            kind, shape = graph.types.get(name, (TensorProto.FLOAT, None))
            types[name] = helper.make_tensor_type_proto(kind, shape)
            tensor = graph.constants.get(name)
            if tensor is not None and math.prod(tensor.dims) <= 64:
                data[name] = tensor
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            types,
            data,
            opset_imports=[helper.make_opsetid("", graph.opset)],
            ir_version=max(graph.ir_version, 8),
        )
    except CfcamError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{n}: {graph.shape(n)}" for n in node.input if n)
        raise ExportError(
            f"cannot write a node {node.op_type} of {shapes} ({first_line(error)}): the shapes that the model states "
            "contradict each other, or this is an error in cfcam"
        ) from error
    result = {}
    for name, proto in found.items():
        kind_shape = type_of(proto)
        if kind_shape is not None:
            result[name] = kind_shape
    return result
