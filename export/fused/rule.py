"""The rule as nodes: activations and gradients in, finished maps out.

Where K classes of each image are explained, gradients have an axis for them. Clusters and all else that no class
changes are found once per image. One class is K = 1, whose axis is taken off again at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper

from ...runtime.methods.base import Grouping
from ..graph import Graph, value_info
from ..graph.graph import Dim
from ..reverse.core import expose
from ..reverse.emitter import Emitter, Value
from .arithmetic import FLOAT, INT, as_index, total
from .bodies import Body, loop
from .clusters import Clusters, cluster
from .components import hooked_by_masks, hooked_by_scatter
from .finishing import finished, guided
from .layer_map import features, means, safe, signed_map, simple_map, takes_means
from .plan import FusedPlan

__all__ = ["rule_graph", "write_rule"]


def rule_graph(plan: FusedPlan, classes: Dim = None) -> Graph:
    """The graph of a plan by itself, opset 18, with the inputs of `write_rule`, and its values as outputs.

    classes: how many of each image, a number or the name of a free size; None for one, without an axis.
    """
    model = ModelProto(ir_version=9)
    model.opset_import.extend([helper.make_opsetid("", 18)])
    graph = Graph(model)
    e = Emitter(graph, "cam_fused")
    maps, columns = (plan.channels, *plan.grid), () if classes is None else (classes,)
    a, g = _input(e, "cam_activations", ("N", *maps)), _input(e, "cam_gradients", ("N", *columns, *maps))
    detail = None if plan.detail is None else _input(e, "cam_detail", ("N", *plan.detail))
    rivals = _input(e, "cam_rivals", ("N", *columns, plan.channels, 1, 1)) if plan.rivals else None
    for name in write_rule(e, plan, a, g, detail=detail, rivals=rivals):
        graph.outputs.append(value_info(graph, name))
    return graph


def write_rule(
    e: Emitter,
    plan: FusedPlan,
    activations: Value,
    gradients: Value,
    *,
    detail: Value | None = None,
    rivals: Value | None = None,
    asked: Value | None = None,
) -> list[str]:
    """Add the nodes of a plan to the emitter's graph, and return the names of what they make, in this order.

    ``cam_map`` float32 (N, H, W) in [0, 1]; ``cam_empty`` bool (N,); with a detail layer ``cam_guided`` bool (N,),
    whether it sharpened the map; of `cfcam` ``cam_counts`` int64 (N, 4), clusters,
    clustered channels, noise and dead ones, and if asked for ``cam_labels`` int64 (N, C), numbers of clusters, or as in
    `Grouping`. Where gradients are (N, K, C, h, w), of K classes of each image, the first three are (N, K, H, W) and
    (N, K).

    activations, gradients: float32 (N, C, h, w); gradients may lack (h, w) where they count by their means.
    detail: float32 (N, D, H, W), where the plan has one. rivals: float32 (N, C, 1, 1), or (N, K, C, 1, 1), likewise.
    asked: bool (N,), or (N, K), whether there is the class that was asked for; None for always.
    """
    batch = activations.dims[0]
    if plan.form == "cpu" and batch != 1:
        if asked is not None and asked.rank == 1:  # a target that is fixed later is one number for all images
            asked = e("Expand", asked, e.vector(e.dim(activations, 0)), shape=(batch,))
        made = _image_by_image(e, plan, activations, gradients, (detail, rivals, asked))
    else:
        made = _made(e, plan, activations, gradients, detail, rivals, asked)
    for name, value in made.items():
        expose(e.graph, value, name)
    return list(made)


def _image_by_image(
    e: Emitter, plan: FusedPlan, activations: Value, gradients: Value, more: Sequence[Value | None]
) -> dict[str, Value]:
    """What `_made` makes of each image by itself: no size is that of another image, and little memory is needed.

    more: the other inputs of `_made`.
    """
    names: list[str] = []

    def turn(body: Body, image: Value, _state: Sequence[Value]) -> tuple[None, list[Value], list[Value]]:
        inner = body.emitter
        place = inner.unsqueeze(image, [0])

        def own(value: Value) -> Value:
            return inner("Gather", body.outer(value), place, axis=0, shape=(1, *value.dims[1:]))

        made = _made(
            inner, plan, own(activations), own(gradients), *(None if one is None else own(one) for one in more)
        )
        names.extend(made)
        return None, [], list(made.values())

    batch, count = activations.dims[0], e.dim(activations, 0)
    trips = e.constant(np.array(count, np.int64)) if isinstance(count, int) else count
    scanned = 2 + (plan.detail is not None) + (plan.settings is not None) * (1 + plan.labels)
    _, rows = loop(e, "cam_fused_image", trips, [], turn, scanned=scanned)
    made = {}
    for name, row in zip(names, rows, strict=True):
        e.graph.types[row.name] = (row.kind, (batch, *row.dims[1:]))
        made[name] = e.squeeze(e.value(row.name), [1])
    return made


def _made(
    e: Emitter,
    plan: FusedPlan,
    activations: Value,
    gradients: Value,
    detail: Value | None,
    rivals: Value | None,
    asked: Value | None,
) -> dict[str, Value]:
    """What `write_rule` gives out, by name."""
    several = _are_several(gradients)

    def by_class(value: Value) -> Value:
        return value if several else e.unsqueeze(value, [1])

    a, g = activations, by_class(gradients)
    against = None if rivals is None else by_class(rivals)
    if takes_means(plan.method, plan.settings):
        g, against = means(e, g), None if against is None else e.squeeze(against, [3, 4])
    if against is not None and plan.settings is not None:
        g = g - against * plan.settings.contrast
    a, g = safe(e, a), safe(e, g, apart=2)
    clusters, guide = None, None
    if plan.settings is None:
        signed = simple_map(e, plan.method, a, g)
    else:
        rows = features(e, a, plan.settings)
        packed = plan.form == "cpu"
        components = hooked_by_scatter if packed else hooked_by_masks
        clusters = cluster(e, rows, plan.settings, plan.clustered, components, packed=packed)
        signed = signed_map(e, a, g, clusters, plan.settings)
        guide = None if detail is None else guided(e, signed, safe(e, detail), plan.settings)
    heat, empty = finished(e, signed, plan.size, guide, None if asked is None else by_class(asked))
    made = {"cam_map": heat, "cam_empty": empty}
    if guide is not None:
        made["cam_guided"] = guide[1].equals(1.0) & ~empty
    if not several:
        made = {name: e.squeeze(value, [1]) for name, value in made.items()}
    if clusters is not None:
        made["cam_counts"] = _counts(e, clusters)
        if plan.labels:
            made["cam_labels"] = _labels(e, clusters)
    return made


def _are_several(gradients: Value) -> bool:
    """Whether there is an axis of classes: (N, K, C, h, w) or (N, K, C), not (N, C, h, w) or (N, C)."""
    return gradients.rank in (3, 5)


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
    numbers = e("CumSum", clusters.present, e.constant(np.array(1, np.int64))) - 1.0
    own = e("GatherElements", numbers, as_index(e, clusters.roots, e.dim(numbers, 1)), axis=1)
    live = own * clusters.found + (1.0 - clusters.found) * float(Grouping.NOISE)
    return e.cast(live * clusters.live + (1.0 - clusters.live) * float(Grouping.DEAD), INT)
