"""A class that is part of the graph: files for hosts that feed an image and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ..runtime.contract.spec import CamSpec, FixedTargetSpec, OutputSpec
from ..runtime.errors import SpecError
from ..runtime.targets import TOP_CLASS, resolve_target
from .errors import ExportError
from .graph import Graph, value_info

__all__ = ["TOP", "fix_target", "fixed_index", "free_target", "with_target_input"]

#: What is asked for where the top class of each image is explained.
TOP = "top"


def fixed_index(asked: str | int, output: OutputSpec) -> int:
    """The class that is meant, -1 for the top one. Raises `TargetError` where there is no such class."""
    index = TOP_CLASS if asked == TOP else resolve_target(asked, output)
    if output.values and index > 0:
        raise ExportError(
            "--fixed-target: of a regression only the first value, made larger, can be fixed: give 'top' or 0, or "
            "leave --fixed-target out for a file that is told which"
        )
    return 0 if output.values else index


def fix_target(graph: Graph, spec: CamSpec, index: int) -> CamSpec:
    """Make the class input of an exported graph a constant, which is changed, and return the spec of the new file.

    The constant has one element, which stands for every image. What the exporter added as int64 or bool becomes int32,
    and what it gives as one number per image, (N,), becomes (N, 1): hosts that feed an image alone, such as DeepStream,
    often know no other integers, and no tensors without sizes of their own.
    """
    graph.inputs = [entry for entry in graph.inputs if entry.name != spec.target]
    graph.add_constant(spec.target, np.array([index], np.int64))
    graph.outputs = [_simple(graph, spec, entry) for entry in graph.outputs]
    graph.reindex()
    return replace(spec, fixed_target=FixedTargetSpec(index=index))


def _simple(graph: Graph, spec: CamSpec, entry: ValueInfoProto) -> ValueInfoProto:
    """An output as int32, with an axis behind the batch, if it is one that the exporter added."""
    name = entry.name
    kind, shape = graph.types.get(name, (None, None))
    if name not in spec.added_outputs or kind not in (TensorProto.INT64, TensorProto.BOOL) or shape is None:
        return entry
    wide = graph.fresh(f"{name}_wide")
    graph.rename(name, wide)
    narrow = graph.fresh(f"{name}_int32") if len(shape) == 1 else name
    graph.add_node(helper.make_node("Cast", [wide], [narrow], name=graph.fresh(f"{name}_cast"), to=TensorProto.INT32))
    graph.types[narrow] = (TensorProto.INT32, shape)
    if narrow != name:
        sizes = graph.fresh(f"{name}_sizes")
        graph.add_constant(sizes, np.array([-1, 1], np.int64))
        graph.add_node(helper.make_node("Reshape", [narrow, sizes], [name], name=graph.fresh(f"{name}_column")))
        graph.types[name] = (TensorProto.INT32, (shape[0], 1))
    return value_info(graph, name)


def free_target(graph: Graph, spec: CamSpec) -> Graph:
    """A copy of a graph with a fixed target that is told the class; its weights are shared."""
    view = graph.copy()
    del view.constants[spec.target]
    batch = (graph.shape(spec.input.name) or (None,))[0]
    view.inputs = [*view.inputs, helper.make_tensor_value_info(spec.target, TensorProto.INT64, [batch])]
    view.types[spec.target] = (TensorProto.INT64, (batch,))
    view.reindex()
    return view


def with_target_input(source: ModelProto, spec: CamSpec) -> ModelProto:
    """A copy of a model with a fixed target, as it is in its file, that is told the class.

    Raises `SpecError` where the class is no constant of the graph.
    """
    model = ModelProto()
    model.CopyFrom(source)
    kept = [tensor for tensor in model.graph.initializer if tensor.name != spec.target]
    if len(kept) == len(model.graph.initializer):
        raise SpecError(f"CamSpec fixed_target: the graph has no constant '{spec.target}': export the model again")
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    image = next((entry for entry in model.graph.input if entry.name == spec.input.name), None)
    entry = helper.make_tensor_value_info(spec.target, TensorProto.INT64, [None])
    if image is not None and image.type.tensor_type.shape.dim:
        entry.type.tensor_type.shape.dim[0].CopyFrom(image.type.tensor_type.shape.dim[0])
    model.graph.input.append(entry)
    return model
