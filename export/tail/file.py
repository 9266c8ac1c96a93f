"""``X.tail.onnx``: the tail as a file of its own, for methods that run it on a device.

Takes ``cam_activations`` (N, C, H, W), as ``X.cam.onnx`` gives them, and gives the logits. It
takes the image too where it cannot do without: when values go round the layer, or when tokens
were set aside that the activations do not hold.
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...runtime.contract.modelfile import file_sha256
from ...runtime.contract.spec import CamSpec, TailSpec
from ..graph import Graph, prune, value_info
from ..writing import write_model
from .cutting import Tail, cut, cut_tail

__all__ = ["tail_model", "tail_path", "write_tail"]


def tail_path(output: str | os.PathLike[str]) -> Path:
    """Where the tail of `output` is written: ``X.tail.onnx`` for ``X.cam.onnx``."""
    output = Path(output)
    return output.with_name(output.name.removesuffix(".onnx").removesuffix(".cam") + ".tail.onnx")


def write_tail(graph: Graph, spec: CamSpec, path: Path) -> CamSpec:
    """Write the tail of an exported graph to `path`; returns the spec that names it. Raises `OutputError`."""
    part = tail_model(graph, spec)
    write_model(part, path)
    inputs = tuple(entry.name for entry in part.graph.input)
    tail = TailSpec(file=path.name, sha256=file_sha256(path), inputs=inputs, score=part.graph.output[0].name)
    return replace(spec, tail=tail)


def tail_model(graph: Graph, spec: CamSpec) -> ModelProto:
    """The tail of an exported model (`open_exported`), which is not changed. Raises `LayerError`."""
    tail = cut_tail(graph, spec)
    part = _around(graph, tail, spec) if not tail.complete else cut(graph, tail.layer, [tail.score], around=False)[0]
    if tail.complete:
        _enter(part, graph, tail, spec)
    classes = len(graph.shape(tail.score) or ())
    if classes > 2:  # (N, classes, 1, 1)
        _flatten(part, graph, tail, spec.output.classes)
    part.producer_name, part.producer_version = "cfcam", importlib.metadata.version("cfcam")
    return part


def _enter(part: ModelProto, graph: Graph, tail: Tail, spec: CamSpec) -> None:
    """Let the part begin at the activations (N, C, H, W) instead of the layer's value."""
    name = spec.layer.activations
    if tail.layer == name:
        return
    kept = [entry for entry in part.graph.input if entry.name != tail.layer]
    del part.graph.input[:]
    part.graph.input.extend([value_info(graph, name), *kept])
    nodes, constants = _rearranged(graph, tail, spec, name, tail.layer)
    part.graph.initializer.extend(constants)
    old = list(part.graph.node)
    del part.graph.node[:]
    part.graph.node.extend([*nodes, *old])


def _rearranged(
    graph: Graph, tail: Tail, spec: CamSpec, source: str, target: str, own: str | None = None
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes (and constants) that make the layer's value from its activations.

    own: the value that the network computed, from which tokens are taken that were set aside.
    """
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    value = source

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        made = graph.fresh(f"tail_{operator.lower()}")
        nodes.append(helper.make_node(operator, list(inputs), [made], name=made, **attributes))
        return made

    def constant(array: np.ndarray) -> str:
        made = graph.fresh("tail_constant")
        constants.append(numpy_helper.from_array(array, made))
        return made

    kind = graph.elem_type(tail.layer)
    if kind != TensorProto.FLOAT:
        value = add("Cast", value, to=kind)
    if spec.layer.layout == "NHWC":
        value = add("Transpose", value, perm=[0, 2, 3, 1])
    elif spec.layer.layout == "NTC":
        value = add("Reshape", value, constant(np.array([0, spec.layer.channels, -1])))
        value = add("Transpose", value, perm=[0, 2, 1])
        # Which token each cell of the grid is.
        places = tail.index[0].reshape(-1) // spec.layer.channels
        tokens = int(tail.shape[1] or 0)
        order = np.arange(tokens)
        if own is None:
            order[places] = np.arange(len(places))
        else:
            value = add("Concat", own, value, axis=1)
            order[places] = tokens + np.arange(len(places))
        if (order != np.arange(len(order))).any():
            value = add("Gather", value, constant(order), axis=1)
    if not nodes:
        value = add("Identity", value)
    nodes[-1].output[0] = target
    return nodes, constants


def _around(graph: Graph, tail: Tail, spec: CamSpec) -> ModelProto:
    """The whole network with the grid's tokens replaced by the activations."""
    whole = graph.copy()
    name = spec.layer.activations
    info = value_info(whole, name)
    whole.rename(name, whole.fresh(f"{name}_before"))
    replaced = whole.fresh(f"{tail.layer}_replaced")
    whole.replace_uses(tail.layer, replaced)
    nodes, constants = _rearranged(whole, tail, spec, name, replaced, own=tail.layer)
    place = next(i for i, node in enumerate(whole.nodes) if tail.layer in node.output) + 1
    whole.nodes[place:place] = nodes
    whole.constants.update({tensor.name: tensor for tensor in constants})
    whole.inputs = [info, *(entry for entry in whole.inputs if entry.name != spec.target)]
    whole.outputs = [value_info(whole, tail.score)]
    whole.reindex()
    prune(whole)
    whole.model.ClearField("metadata_props")
    return whole.to_model()


def _flatten(part: ModelProto, graph: Graph, tail: Tail, classes: int) -> None:
    """Give the scores as (N, classes)."""
    flat, shape = graph.fresh(f"{tail.score}_flat"), graph.fresh("tail_shape")
    part.graph.initializer.append(numpy_helper.from_array(np.array([0, classes]), shape))
    part.graph.node.append(helper.make_node("Reshape", [tail.score, shape], [flat], name=flat))
    batch = (graph.shape(tail.score) or (None,))[0]
    kind = graph.elem_type(tail.score) or TensorProto.FLOAT
    del part.graph.output[:]
    part.graph.output.append(helper.make_tensor_value_info(flat, kind, [batch, classes]))
