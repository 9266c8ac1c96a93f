"""`Graph`: an ONNX graph that can be asked and edited.

One view for every pass: who produces and who consumes a value, its type and shape, its
constant value if it has one, and fresh names. Shapes hold ints, symbol names, or None.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper, numpy_helper

from ...runtime.errors import ModelFileError
from ..wording import first_line
from .loading import LARGE_WEIGHT, tensor_bytes

__all__ = ["Dim", "Graph", "Shape", "attribute", "captured_names", "reads", "rename_inputs", "subgraphs", "type_of"]

Dim = int | str | None
Shape = tuple[Dim, ...]
#: Value -> element type, and shape or None for an unknown rank.
Types = dict[str, tuple[int, Shape | None]]

_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}

# Operators whose shape ONNX's inference leaves open (functions, ONNX Runtime's own) though it is the input's.
_SHAPE_KEEPING = {
    "BiasGelu", "FastGelu", "Gelu", "GroupNormalization", "MeanVarianceNormalization", "QuickGelu",
    "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization", "Swish",
}  # fmt: skip


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute (strings decoded), or `default`."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of If, Loop, Scan and the like."""
    for item in node.attribute:
        if item.type == onnx.AttributeProto.GRAPH:
            yield item.g
        elif item.type == onnx.AttributeProto.GRAPHS:
            yield from item.graphs


def captured_names(node: NodeProto) -> set[str]:
    """Names of outer values that the node's bodies use."""
    found: set[str] = set()
    for body in subgraphs(node):
        own = {i.name for i in body.input} | {t.name for t in body.initializer}
        for inner in body.node:
            found |= (set(inner.input) | captured_names(inner)) - own
            own |= set(inner.output)
        found |= {o.name for o in body.output} - own
    found.discard("")
    return found


def reads(node: NodeProto) -> list[str]:
    """Names of the values that the node and its bodies read."""
    return [n for n in (*node.input, *captured_names(node)) if n]


def type_of(proto: TypeProto) -> tuple[int, Shape | None] | None:
    """(element type, shape or None for an unknown rank) of a tensor type, else None."""
    if not proto.HasField("tensor_type") or not proto.tensor_type.elem_type:
        return None
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        kind = dim.WhichOneof("value")
        dims.append(dim.dim_value if kind == "dim_value" else (dim.dim_param or None) if kind else None)
    return tensor.elem_type, tuple(dims)


class Graph:
    """Editable view of a normalised model (see `normalise`); `to_model` writes it back.

    The model that is given is not changed; its weights are shared, not copied. weights: more
    initializers, which the model itself leaves out.
    """

    def __init__(self, model: ModelProto, weights: Iterable[TensorProto] = ()) -> None:
        self.model = model
        self.nodes: list[NodeProto] = [copy.copy(n) for n in model.graph.node]
        self.inputs = list(model.graph.input)
        self.outputs = list(model.graph.output)
        self.constants: dict[str, TensorProto] = {t.name: t for t in (*model.graph.initializer, *weights)}
        self.opsets: dict[str, int] = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        self.ir_version = model.ir_version
        self.types: Types = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._fresh: dict[str, int] = {}
        self.reindex()
        self.infer()

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.opsets.get("", 1)

    @property
    def input_names(self) -> list[str]:
        return [i.name for i in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return [o.name for o in self.outputs]

    def reindex(self) -> None:
        """Rebuild producers, consumers and the set of names after nodes were changed."""
        self.producers: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        names = {i.name for i in self.inputs} | {o.name for o in self.outputs} | set(self.constants)
        for node in self.nodes:
            self._index(node)
            names |= {node.name, *node.input, *node.output, *captured_names(node)}
        self.names = names

    def _index(self, node: NodeProto) -> None:
        for name in node.output:
            if name:
                self.producers[name] = node
        for name in dict.fromkeys([*node.input, *sorted(captured_names(node))]):
            if name:
                self.consumers.setdefault(name, []).append(node)

    def infer(self) -> None:
        """Shapes and types of all values, by ONNX's own inference with data propagation."""
        large = [t for t in self.constants.values() if tensor_bytes(t) > LARGE_WEIGHT]
        slim = self._assemble(t for t in self.constants.values() if tensor_bytes(t) <= LARGE_WEIGHT)
        slim.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in large)
        known = _inferred_types(slim)
        stated = self._stated(known)
        if stated:
            slim.graph.value_info.extend(stated)
            known = _inferred_types(slim)
        while self._fill_in(slim, known):
            known = _inferred_types(slim)
        self.types.update(known)
        for name, tensor in self.constants.items():
            self.types[name] = (tensor.data_type, tuple(tensor.dims))

    def _stated(self, known: Types) -> list[ValueInfoProto]:
        """What the model itself says of shapes that inference leaves open.

        Only that: it may have been written before somebody changed the size of the input.
        """
        stated = []
        for info in self.model.graph.value_info:
            said, found = type_of(info.type), known.get(info.name)
            if info.name not in self.producers or said is None or said[1] is None:
                continue
            if found is None or found[1] is None:
                stated.append(info)
            elif len(found[1]) == len(said[1]) and not all(isinstance(d, int) for d in found[1]):
                dims = [f if isinstance(f, int) else s for f, s in zip(found[1], said[1], strict=True)]
                stated.append(helper.make_tensor_value_info(info.name, said[0], dims))
        return stated

    def _fill_in(self, slim: ModelProto, known: Types) -> bool:
        """Write down shapes that inference leaves open but that equal the input's; True when it did."""
        written = {i.name for i in slim.graph.value_info}
        added = False
        for node in self.nodes:
            if node.op_type not in _SHAPE_KEEPING or not node.input or node.output[0] in written:
                continue
            source, own = known.get(node.input[0]), known.get(node.output[0])
            if source is not None and source[1] is not None and (own is None or own[1] is None):
                info = helper.make_tensor_value_info(node.output[0], *source)
                slim.graph.value_info.append(info)
                added = True
        return added

    # -- asking

    def shape(self, name: str) -> Shape | None:
        """Shape of a value, or None when not even its rank is known."""
        return self.types.get(name, (0, None))[1]

    def elem_type(self, name: str) -> int | None:
        """ONNX element type of a value, or None when it is unknown."""
        return self.types.get(name, (None, None))[0]

    def is_float(self, name: str) -> bool:
        """True for floating-point values, and for values whose type is unknown."""
        kind = self.elem_type(name)
        return kind is None or kind in _FLOATS

    def constant(self, name: str) -> np.ndarray | None:
        """The array behind a constant value, or None."""
        if name not in self._arrays and name in self.constants:
            self._arrays[name] = numpy_helper.to_array(self.constants[name])
        return self._arrays.get(name)

    def integers(self, node: NodeProto, name: str, position: int) -> list[int] | None:
        """What older operator sets have as an attribute and newer ones as an input; None where that is no constant."""
        given = attribute(node, name)
        if given is None and len(node.input) > position:
            given = self.constant(node.input[position])
        return None if given is None else [int(value) for value in np.reshape(given, -1)]

    def ancestors(self, names: Iterable[str], *, stops: Container[str] = ()) -> set[str]:
        """All values that `names` are computed from, themselves included; what lies before `stops` is left out."""
        found, waiting = set(), [n for n in names if n]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            node = self.producers.get(name)
            if node is not None and name not in stops:
                waiting.extend(reads(node))
        return found

    def descendants(self, names: Iterable[str]) -> set[str]:
        """All values that depend on `names`, themselves included."""
        found, waiting = set(), list(names)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            for node in self.consumers.get(name, ()):
                waiting.extend(n for n in node.output if n)
        return found

    # -- editing

    def fresh(self, base: str) -> str:
        """A name that nothing uses yet, close to `base`."""
        name, count = base, self._fresh.get(base, 0)
        while name in self.names or not name:
            count += 1
            name = f"{base}_{count}"
        self._fresh[base] = count
        self.names.add(name)
        return name

    def add_node(self, node: NodeProto) -> None:
        """Append a node; its inputs must exist already."""
        self.nodes.append(node)
        self._index(node)
        self.names.update((node.name, *node.output))

    def add_constant(self, name: str, array: np.ndarray) -> None:
        """Add an initializer."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        self._arrays[name] = array
        self.types[name] = (self.constants[name].data_type, array.shape)
        self.names.add(name)

    def replace_uses(self, old: str, new: str) -> None:
        """Make every node (bodies included) that reads `old` read `new`."""
        for node in self.nodes:
            rename_inputs(node, {old: new})
        self.reindex()

    def rename(self, old: str, new: str) -> None:
        """Give a value that a node produces another name, everywhere."""
        for node in self.nodes:
            rename_inputs(node, {old: new})
            for position, name in enumerate(node.output):
                if name == old:
                    node.output[position] = new
        if old in self.types:
            self.types[new] = self.types.pop(old)
        self.reindex()

    def copy(self) -> Graph:
        """A graph that can be edited apart from this one; the constants are shared, not copied."""
        model = self._assemble(())
        model.graph.value_info.extend(self.model.graph.value_info)  # what inference cannot find by itself
        return Graph(model, weights=self.constants.values())

    def describe(self, types: Mapping[str, tuple[int, Shape | None]]) -> None:
        """Write down types and shapes that ONNX's inference cannot find by itself."""
        known = {i.name for i in self.model.graph.value_info}
        for name, (kind, shape) in types.items():
            if shape is None or name not in self.producers or self.shape(name) is not None:
                continue
            self.types[name] = (kind, shape)
            if name not in known:
                self.model.graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))

    def to_model(self) -> ModelProto:
        """The graph as a model of its own."""
        return self._assemble(self.constants.values())

    def _assemble(self, constants: Iterable[TensorProto]) -> ModelProto:
        model = ModelProto()
        source = self.model
        model.ir_version = self.ir_version
        model.producer_name, model.producer_version = source.producer_name, source.producer_version
        model.domain, model.model_version, model.doc_string = source.domain, source.model_version, source.doc_string
        model.metadata_props.extend(source.metadata_props)
        model.opset_import.extend(helper.make_opsetid(d, v) for d, v in self.opsets.items())
        model.functions.extend(source.functions)
        graph = model.graph
        graph.name, graph.doc_string = source.graph.name or "main", source.graph.doc_string
        graph.node.extend(self.nodes)
        graph.input.extend(self.inputs)
        graph.output.extend(self.outputs)
        graph.initializer.extend(constants)
        return model


def _inferred_types(model: ModelProto) -> Types:
    """Types of all values that inference can describe; a description with a shape wins over one without."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # what a graph that contradicts itself makes of the C++ code
        raise ModelFileError(f"the shapes of the model contradict each other ({first_line(error)})") from error
    known: Types = {}
    for info in (*graph.value_info, *graph.input, *graph.output):
        found = type_of(info.type)
        if found is not None and (info.name not in known or found[1] is not None):
            known[info.name] = found
    return known


def rename_inputs(node: NodeProto, names: dict[str, str]) -> None:
    """Give the values that a node and its bodies read other names."""
    for position, name in enumerate(node.input):
        if name in names:
            node.input[position] = names[name]
    for body in subgraphs(node):
        own = {i.name for i in body.input} | {t.name for t in body.initializer}
        own |= {o for n in body.node for o in n.output}
        outer = {k: v for k, v in names.items() if k not in own}
        for inner in body.node:
            rename_inputs(inner, outer)
        for output in body.output:
            if output.name in outer:
                output.name = outer[output.name]
