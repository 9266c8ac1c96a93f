"""What guides a map besides the gradient: the detail layer's activations and the rivals' gradient.

1. `detail_leads_to_activations`: the part of the network from the detail layer to the target layer, fed with
   ``cam_detail``, gives ``cam_activations`` (1e-4 of the largest): so the detail is what the network computes with.
2. `rivals_against_differences`: ``cam_rivals`` against central differences of logsumexp over the other classes' exact
   logits, along random directions (1e-4): this knows nothing of any derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.contract.spec import CamSpec, LayerSpec
from ..graph import Graph, value_info
from ..tail.cutting import Tail, cut, find_detail_value, find_layer_value, index_map
from .differences import moved
from .exported_file import COARSE_GRADIENT, ExportedFile
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
    part = _part(file.graph, file.spec, detail.as_layer())
    known = _known(file, file.graph, part)
    value = part.layer_value(file.top.detail, known)
    feeds = {part.layer: value, **{name: known[name] for name in part.others}}
    found = Session(part.model).run_in_batches(feeds, file.batch or len(value))[file.spec.layer.activations]
    release_memory()
    limit = 1e-4 if file.spec.precision == "float32" else COARSE_GRADIENT
    error = relative_error(found, file.top.activations)
    return [Check("activations of the layer, from those of the detail layer", error, limit)]


def _part(graph: Graph, spec: CamSpec, detail: LayerSpec) -> Tail:
    """From the detail layer's value to the target layer's activations. Raises `LayerError`."""
    value = find_detail_value(graph, detail, find_layer_value(graph, spec))
    model, others = cut(graph, value, [spec.layer.activations])
    places = index_map(graph, detail, value)
    return Tail(model, value, tuple(others), graph.shape(value) or (), spec.layer.activations, places)


def _known(file: ExportedFile, graph: Graph, part: Tail) -> dict[str, Array]:
    """What the part needs besides the detail, from a run of the whole file."""
    if not part.needed:
        return {}
    names = {output.name for output in graph.outputs}
    probed = graph.copy()
    probed.outputs = [*graph.outputs, *(value_info(graph, n) for n in part.needed if n not in names)]
    feeds = {file.spec.input.name: file.images, file.spec.target: np.full(len(file.images), -1, np.int64)}
    return Session(probed.to_model()).run_in_batches(feeds, file.batch or len(file.images))


def rivals_against_differences(file: ExportedFile) -> list[Check]:
    """The rivals' gradient against differences of the logsumexp of the other classes' logits, for two classes."""
    if file.spec.layer.rivals is None:
        return []
    worst = 0.0
    activations = file.top.activations.astype(np.float64)
    size = np.abs(activations).mean(axis=(1, 2, 3)) + 1e-300
    apart = (len(size), 1, 1, 1)
    for turn, answer in enumerate((file.top, file.other)):
        assert answer.rivals is not None
        direction = np.random.default_rng(turn).standard_normal(activations.shape)
        change = _STEP * size.reshape(apart) * direction
        ahead, behind = (
            _rivals(file.exact.scores(moved(file.tail, sign * change)), answer.classes) for sign in (1, -1)
        )
        wide = np.broadcast_to(answer.rivals.astype(np.float64), activations.shape)
        expected, found = (ahead - behind) / 2, (wide * change).sum(axis=(1, 2, 3))
        length = np.sqrt((wide**2).sum(axis=(1, 2, 3))) * _STEP * size
        worst = max(worst, float((np.abs(found - expected) / np.where(length > 0, length, 1)).max()))
    return [Check("rivals' gradient against differences", worst, COARSE_GRADIENT if file.coarse else 1e-4)]


def _rivals(scores: Array, classes: Array) -> Array:
    """logsumexp over all logits (N, K) but those of `classes` (N,)."""
    others = scores.copy()
    others[np.arange(len(scores)), classes] = -np.inf
    top = others.max(axis=1)
    return top + np.log(np.exp(others - top[:, None]).sum(axis=1))
