"""A graph with inputs to emit into, and its values."""

from typing import Any

import numpy as np
from cfcam.export.graph import Graph
from cfcam.export.proof.session import Session
from cfcam.export.reverse.emitter import Emitter
from onnx import ModelProto, helper


def evaluated(build, **arrays) -> list[Any]:
    """What `build` (emitter, values by name) -> values gives for arrays, by ONNX Runtime."""
    model = ModelProto(ir_version=9)
    model.opset_import.extend([helper.make_opsetid("", 18)])
    graph = Graph(model)
    e = Emitter(graph, "t")
    for name, array in arrays.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        shape = ("N", *array.shape[1:])
        graph.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        graph.types[name] = (kind, shape)
        graph.names.add(name)
    made = build(e, {name: e.value(name) for name in arrays})
    for value in made:
        graph.outputs.append(helper.make_tensor_value_info(value.name, value.kind, None))
    found = Session(graph.to_model(), threads=1).run(arrays)
    return [np.asarray(found[value.name]) for value in made]
