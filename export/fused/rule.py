"""The rule as a graph of its own: activations and gradients in, finished maps out."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper

from ...runtime.methods.base import Grouping
from ..graph import Graph, value_info
from ..reverse.core import expose
from ..reverse.emitter import Emitter, Value
from .arithmetic import FLOAT, INT, as_index, total
from .clusters import Clusters, cluster
from .components import hooked_by_masks
from .finishing import finished, guided
from .layer_map import features, safe, signed_map, simple_map
from .plan import FusedPlan

__all__ = ["rule_graph"]


def rule_graph(plan: FusedPlan) -> Graph:
    """The graph of a plan, opset 18.

    Inputs: ``cam_activations`` and ``cam_gradients`` float32 (N, C, h, w), and where the plan has them ``cam_detail``
    (N, D, H, W) and ``cam_rivals`` (N, C, 1, 1). Outputs: ``cam_map`` float32 (N, H, W) in [0, 1]; ``cam_empty`` bool
    (N,); of `cfcam` ``cam_counts`` int64 (N, 4), clusters, clustered channels, noise and dead ones, and if asked for
    ``cam_labels`` int64 (N, C), numbers of clusters, or as in `Grouping`.
    """
    model = ModelProto(ir_version=9)
    model.opset_import.extend([helper.make_opsetid("", 18)])
    graph = Graph(model)
    e = Emitter(graph, "cam_fused")
    shape = ("N", plan.channels, *plan.grid)
    a, g = _input(e, "cam_activations", shape), _input(e, "cam_gradients", shape)
    detail = None if plan.detail is None else _input(e, "cam_detail", ("N", *plan.detail))
    if plan.rivals and plan.settings is not None:
        g = g - _input(e, "cam_rivals", ("N", plan.channels, 1, 1)) * plan.settings.contrast
    a, g = safe(e, a), safe(e, g)
    clusters, guide = None, None
    if plan.settings is None:
        signed = simple_map(e, plan.method, a, g)
    else:
        rows = features(e, a, plan.settings)
        clusters = cluster(e, rows, plan.settings, plan.clustered, hooked_by_masks)
        signed = signed_map(e, a, g, clusters, plan.settings)
        guide = None if detail is None else guided(e, signed, safe(e, detail), plan.settings)
    heat, empty = finished(e, signed, plan.size, guide, None)
    outputs = {"cam_map": heat, "cam_empty": empty}
    if clusters is not None:
        outputs["cam_counts"] = _counts(e, clusters)
        if plan.labels:
            outputs["cam_labels"] = _labels(e, clusters)
    for name, value in outputs.items():
        expose(graph, value, name)
        graph.types[name] = (value.kind, value.shape)
        graph.outputs.append(value_info(graph, name))
    return graph


def _input(e: Emitter, name: str, shape: tuple[int | str, ...]) -> Value:
    e.graph.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
    e.graph.types[name] = (FLOAT, shape)
    e.graph.names.add(name)
    return e.value(name)


def _counts(e: Emitter, clusters: Clusters) -> Value:
    live = total(e, clusters.live, [1], keepdims=True)
    many = total(e, clusters.present, [1], keepdims=True) * clusters.found
    clustered = live * clusters.found
    dead = total(e, 1.0 - clusters.live, [1], keepdims=True)
    return e.cast(e("Concat", many, clustered, live - clustered, dead, axis=1), INT)


def _labels(e: Emitter, clusters: Clusters) -> Value:
    """int64 (N, C): clusters numbered by their first core channel."""
    size = int(clusters.present.dims[1] or 0)
    numbers = e("CumSum", clusters.present, e.constant(np.array(1, np.int64))) - 1.0
    own = e("GatherElements", numbers, as_index(e, clusters.roots, size), axis=1)
    live = own * clusters.found + (1.0 - clusters.found) * float(Grouping.NOISE)
    return e.cast(live * clusters.live + (1.0 - clusters.live) * float(Grouping.DEAD), INT)
