"""Cutting a part out of a graph: the tail from a layer to the score, for instance."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto, helper

from ..errors import ExportError
from .graph import Graph, Shape

__all__ = ["extract", "value_info"]


def extract(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> ModelProto:
    """The model that computes `outputs` from `inputs` (and from graph inputs that it still needs).

    `graph` is not changed. Raises `ExportError` for an unknown value.
    """
    for name in (*inputs, *outputs):
        if name not in graph.types and name not in graph.names:
            raise ExportError(f"the graph has no value '{name}'")
    cut = set(inputs)
    needed = graph.ancestors(outputs, stops=cut)
    model = ModelProto()
    model.ir_version = graph.ir_version
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in graph.opsets.items())
    model.graph.name = "tail"
    model.graph.node.extend(n for n in graph.nodes if any(o in needed and o not in cut for o in n.output))
    model.graph.input.extend(value_info(graph, n) for n in inputs)
    model.graph.input.extend(i for i in graph.inputs if i.name in needed and i.name not in cut)
    model.graph.output.extend(value_info(graph, n) for n in outputs)
    model.graph.initializer.extend(t for n, t in graph.constants.items() if n in needed and n not in cut)
    return model


def value_info(graph: Graph, name: str, shape: Shape | None = None):
    """ValueInfoProto of a value, with its inferred type and shape (or the given shape)."""
    kind = graph.elem_type(name)
    if kind is None:
        raise ExportError(f"the type of value '{name}' is unknown: run ONNX shape inference on the model first")
    return helper.make_tensor_value_info(name, kind, shape if shape is not None else graph.shape(name))
