"""`Evaluator`: a model whose floating-point arithmetic runs in another precision."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ...errors import UnsupportedOperatorError
from ...graph.exact_resize import Resize
from ...graph.graph import captured_names
from ...reverse.registry import node_name
from .operators import find_operator

__all__ = ["Evaluator"]

_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
#: Attributes that name an element type.
_TYPES = {"to", "dtype", "output_dtype"}


class Evaluator:
    """Runs a model with every floating-point value in `dtype`: weights, constants, casts and inputs.

    model: of any float precision; it is not changed. Its weights are converted when they are
    first needed, so that only what is run takes memory. dtype: float64, or float32 for a second
    opinion on what float32 rounding does.
    straight_through: QuantizeLinear does not round, it only clips to the range that rounding
    would reach. That is the function whose derivative the straight-through rule gives.
    digits: binary digits to which every value that is computed is rounded (11: those of float16, without its range).

    Values are freed as soon as nothing needs them any more.

    >>> Evaluator(model).run({"x": x})["y"].dtype                       # doctest: +SKIP
    dtype('float64')
    """

    def __init__(
        self,
        model: ModelProto,
        dtype: type[np.floating] = np.float64,
        *,
        straight_through: bool = False,
        digits: int | None = None,
    ) -> None:
        self.dtype, self._digits = np.dtype(dtype), digits
        self._kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        self._straight_through = straight_through
        self._tensors = {t.name: t for t in model.graph.initializer}
        self._weights: dict[str, NDArray[Any]] = {}
        self._opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
        self.inputs = [i.name for i in model.graph.input if i.name not in self._tensors]
        self.outputs = [o.name for o in model.graph.output]
        self._nodes = [_Node(_in_precision(n, self._kind), self) for n in model.graph.node]
        self._plans: dict[tuple[str, ...], list[tuple[_Node, list[str]]]] = {}

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self._opsets.get("", 1)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Values by name (default: the model's outputs). Only what they depend on is run.

        feeds: the inputs that they depend on; floating-point ones are converted.
        Raises `UnsupportedOperatorError` for an operator that cannot be evaluated.
        """
        wanted = tuple(self.outputs if outputs is None else outputs)
        values = {name: self._convert(np.asarray(value)) for name, value in feeds.items()}
        for node, finished in self._plan(wanted):
            arguments = [self._value(values, name) for name in node.proto.input]
            around = {name: self._value(values, name) for name in node.captured}
            results = node.run(arguments, around)
            for name, value in zip(node.proto.output, results, strict=False):
                if name:
                    values[name] = value if self._digits is None else _rounded(value, self._digits)
            for name in finished:
                values.pop(name, None)
        return {name: self._value(values, name) for name in wanted}

    def _plan(self, wanted: tuple[str, ...]) -> list[tuple[_Node, list[str]]]:
        """The nodes that `wanted` needs, in order, each with the values that nothing needs after it."""
        if wanted not in self._plans:
            needed, plan = set(wanted), []
            for node in reversed(self._nodes):
                if not needed.intersection(node.proto.output):
                    continue
                plan.append((node, [n for n in (*node.needs, *node.proto.output) if n not in needed]))
                needed.update(node.needs)
            self._plans[wanted] = plan[::-1]
        return self._plans[wanted]

    def _value(self, values: Mapping[str, NDArray[Any]], name: str) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        if name not in self._weights:
            if name not in self._tensors:
                raise KeyError(f"'{name}' is not given, and nothing computes it")
            self._weights[name] = self._convert(numpy_helper.to_array(self._tensors[name]))
        return self._weights[name]

    def _convert(self, array: NDArray[Any]) -> NDArray[Any]:
        # bfloat16 is a type of its own, which numpy does not count among its floats
        is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        return array.astype(self.dtype, copy=False) if is_float else array

    def reference(self, node: NodeProto, given: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of one node by ONNX's reference evaluator."""
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in given.items()
            ],
            [helper.make_value_info(n, helper.make_tensor_type_proto(self._kind, None)) for n in node.output if n],
        )
        imports = [helper.make_opsetid(d, v) for d, v in self._opsets.items()]
        model = helper.make_model(graph, opset_imports=imports)
        try:
            results: Iterable[Any] = ReferenceEvaluator(model, new_ops=[Resize]).run(None, dict(given))  # type: ignore[assignment]
        except Exception as error:
            words = " ".join(str(error).split())[:200] or type(error).__name__
            raise UnsupportedOperatorError(
                f"{node_name(node)} cannot be evaluated in {self.dtype}: neither this package nor ONNX's reference "
                f"evaluator can run it on inputs of shape {[list(a.shape) for a in given.values()]} ({words})"
            ) from error
        found = iter([self._convert(np.asarray(value)) for value in results])
        return [next(found) if name else np.empty(0) for name in node.output]


class _Node:
    """One node, ready to run."""

    def __init__(self, proto: NodeProto, owner: Evaluator) -> None:
        self.proto = proto
        self.captured = sorted(captured_names(proto))
        self.needs = [n for n in dict.fromkeys([*proto.input, *self.captured]) if n]
        self._owner = owner
        self._operator = find_operator(proto, straight_through=owner._straight_through)

    def run(self, arguments: list[Any], around: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        if self._operator is not None:
            found = self._operator(self.proto, arguments, self._owner.opset)
            if found is not NotImplemented:
                return found if isinstance(found, tuple) else (found,)
        given = {n: a for n, a in zip(self.proto.input, arguments, strict=True) if n}
        return self._owner.reference(self.proto, {**given, **around})


def _rounded(value: NDArray[Any], digits: int) -> NDArray[Any]:
    if value.dtype.kind != "f":
        return value
    mantissa, exponent = np.frexp(value)
    return np.ldexp(np.rint(mantissa * 2.0**digits) / 2.0**digits, exponent).astype(value.dtype)


def _in_precision(node: NodeProto, kind: int) -> NodeProto:
    """The node with its constants and the types that it names in precision `kind`; unchanged where it has none."""
    if not any(_names_a_float(a) for a in node.attribute):
        return node
    node = copy.deepcopy(node)
    for item in node.attribute:
        if item.name in _TYPES and item.type == AttributeProto.INT and item.i in _FLOATS:
            item.i = kind
        elif item.type == AttributeProto.TENSOR and item.t.data_type in _FLOATS:
            item.t.CopyFrom(_tensor(item.t, kind))
        elif item.type == AttributeProto.GRAPH:
            _body_in_precision(item.g, kind)
        elif node.op_type == "Constant" and item.name in ("value_float", "value_floats"):
            value = np.asarray(helper.get_attribute_value(item), helper.tensor_dtype_to_np_dtype(kind))
            item.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
    return node


def _names_a_float(item: AttributeProto) -> bool:
    return (
        (item.name in _TYPES and item.i in _FLOATS)
        or (item.type == AttributeProto.TENSOR and item.t.data_type in _FLOATS)
        or item.type == AttributeProto.GRAPH
        or item.name in ("value_float", "value_floats")
    )


def _body_in_precision(body: GraphProto, kind: int) -> None:
    for tensor in body.initializer:
        if tensor.data_type in _FLOATS:
            tensor.CopyFrom(_tensor(tensor, kind))
    nodes = [_in_precision(n, kind) for n in body.node]
    del body.node[:]
    body.node.extend(nodes)
    for info in (*body.input, *body.output, *body.value_info):
        if info.type.tensor_type.elem_type in _FLOATS:
            info.type.tensor_type.elem_type = kind


def _tensor(tensor: TensorProto, kind: int) -> TensorProto:
    array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(array, tensor.name)
