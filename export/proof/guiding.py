"""What guides a map besides the gradient: the detail layer's activations and the rivals' gradient.

1. `detail_leads_to_activations`: the part of the network from the detail layer to the target layer, fed with
   ``cam_detail``, gives ``cam_activations`` (1e-4 of the largest): so the detail is what the network computes with.
   Where values are quantised, both are computed node by node.
2. `rivals_against_differences`: ``cam_rivals`` against central differences of all exact logits along random directions,
   weighed by the softmax over the other classes (1e-4): this knows nothing of any derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ...runtime.contract.spec import CamSpec, LayerSpec
from ...runtime.probabilities import softmax
from ...runtime.targets import class_input
from ..axes.onnx_values import map_axes
from ..errors import LayerError
from ..graph import Graph
from ..tail.cutting import Tail, cut, find_detail_value, find_layer_value, held_axes, index_map
from .differences import moved
from .exported_file import COARSE_GRADIENT, ExportedFile, open_probe
from .float64 import Evaluator
from .results import Check, relative_error
from .session import Session, release_memory

__all__ = ["detail_leads_to_activations", "rivals_against_differences"]

Array = NDArray[Any]

#: Of the logits' change with a step along a direction, relative to the activations.
_STEP = 1e-4


def detail_leads_to_activations(file: ExportedFile) -> list[Check]:
    """The target layer's activations, computed from the detail layer's, against those that the file gives."""
    detail = file.spec.layer.detail
    if detail is None or file.top.detail is None:
        return []
    assert file.graph is not None, "the detail is proved before the graph is given back"
    try:
        part = _part(file.graph, file.spec, detail.as_layer())
    except LayerError as error:
        return [Check("activations of the layer, from those of the detail layer", float("inf"), 1e-4, note=str(error))]
    # Kernels for quantised values round otherwise in either graph: node by node both compute the same.
    optimise = not file.has_quantisers
    answer = file.top if optimise else file.node_by_node
    assert answer.detail is not None
    known = _known(file, file.graph, part, optimise)
    value = part.layer_value(answer.detail, known)
    kind = helper.tensor_dtype_to_np_dtype(file.graph.elem_type(part.layer) or TensorProto.FLOAT)
    feeds = {part.layer: value.astype(kind), **{name: known[name] for name in part.others}}
    session = Session(part.model, optimise=optimise)
    found = session.run_in_batches(feeds, file.batch or len(value))[file.spec.layer.activations]
    del session
    release_memory()
    limit = 1e-4 if file.spec.precision == "float32" else COARSE_GRADIENT
    error = relative_error(found, answer.activations)
    return [Check("activations of the layer, from those of the detail layer", error, limit)]


def _part(graph: Graph, spec: CamSpec, detail: LayerSpec) -> Tail:
    """From the detail layer's value to the target layer's activations. Raises `LayerError`."""
    value = find_detail_value(graph, detail, find_layer_value(graph, spec))
    model, others = cut(graph, value, [spec.layer.activations])
    places = index_map(graph, detail, value)
    shape = [int(size or 0) for size in (graph.shape(value) or ())[1:]]
    held_axes(map_axes(graph).layout(value), places, shape, detail)  # another order of cells would be undone unnoticed
    return Tail(model, value, tuple(others), graph.shape(value) or (), spec.layer.activations, places)


def _known(file: ExportedFile, graph: Graph, part: Tail, optimise: bool) -> dict[str, Array]:
    """What the part needs besides the detail, from a run of the whole file."""
    probe = open_probe(graph, part, optimise=optimise)
    if probe is None:
        return {}
    top = class_input(file.spec, np.full(len(file.images), -1, np.int64))
    feeds = {file.spec.input.name: file.images, file.spec.target: top}
    return probe.run_in_batches(feeds, file.batch or len(file.images))


def rivals_against_differences(file: ExportedFile) -> list[Check]:
    """The rivals' gradient against differences of all logits, weighed by the softmax over the rivals; two classes."""
    if file.spec.layer.rivals is None:
        return []
    exact = file.exact
    scores = exact.scores()
    if file.quantised:  # rounding has no derivative: what the backward pass stands for clips alone
        exact = exact.with_evaluator(Evaluator(file.tail.model, straight_through=True))
    activations = file.top.activations.astype(np.float64)
    size = np.abs(activations).mean(axis=(1, 2, 3)) + 1e-300
    errors = []
    for turn, answer in enumerate((file.top, file.other)):
        assert answer.rivals is not None
        direction = np.random.default_rng(turn).standard_normal(activations.shape)
        change = _STEP * size.reshape(-1, 1, 1, 1) * direction
        ahead, behind = (exact.scores(moved(file.tail, sign * change)) for sign in (1, -1))
        expected = (_shares_of_rivals(scores, answer.classes) * (ahead - behind) / 2).sum(axis=1)
        wide = np.broadcast_to(answer.rivals.astype(np.float64), activations.shape)
        found = (wide * change).sum(axis=(1, 2, 3))
        length = np.sqrt((wide**2).sum(axis=(1, 2, 3))) * size
        # An image whose gradient is zero: the logits must not move, by more than rounding.
        unit = np.where(length > 0, length, np.abs(scores).max(axis=1) + 1e-300)
        errors.append(np.abs(found - expected) / (_STEP * unit))
    # Of a quantised graph some directions cross the end of a range.
    worst = float(np.median(errors) if file.quantised else np.max(errors))
    return [Check("rivals' gradient against differences", worst, COARSE_GRADIENT if file.coarse else 1e-4)]


def _shares_of_rivals(scores: Array, classes: Array) -> Array:
    """Softmax over the logits (N, K) of all classes but `classes` (N,), which get 0."""
    others = scores.copy()
    others[np.arange(len(scores)), classes] = -np.inf
    return softmax(others)
