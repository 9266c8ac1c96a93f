"""Small explained files to bring into another precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import certified_nets
import numpy as np
from cfcam.export.graph import open_graph
from cfcam.export.precision import Plan
from cfcam.export.writing import set_spec, write_model
from onnx_classifiers import exported

IMAGES = np.stack([certified_nets.image(seed) for seed in range(12)])
HALF = Plan(precision="float16")
INT8 = Plan(precision="int8")
#: What TensorRT wants.
SYMMETRIC = Plan(precision="int8", symmetric=True)


def write(net: str, path: Path, layer: str = "last") -> Path:
    model, spec = exported(certified_nets.NETS[net](), layer)
    spec = replace(spec, layers=(replace(spec.layer, pooled=layer == "last", name="the layer"),))
    set_spec(model, spec)
    write_model(model, path)
    return path


def middle_of(net: str) -> str:
    """The value behind the second ReLU6."""
    graph, _ = open_graph(certified_nets.NETS[net]())
    return [node.output[0] for node in graph.nodes if node.op_type == "Clip"][1]
