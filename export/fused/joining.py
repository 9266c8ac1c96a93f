"""The rule joined to an exported graph: what was given out becomes inner values, and the finished map is given out."""

from __future__ import annotations

from dataclasses import replace

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ...runtime.contract.fused_spec import FusedSpec
from ...runtime.contract.spec import CamSpec
from ..errors import ExportError
from ..graph import Graph, value_info
from ..graph.graph import Dim
from ..reverse.core import expose
from ..reverse.emitter import Emitter, Value
from .arithmetic import FLOAT
from .layer_map import takes_means
from .plan import FusedPlan, stated_settings
from .rule import write_rule

__all__ = ["RULE_PREFIX", "join_rule", "two_stage_view", "with_inner_values", "without_rule"]

#: What the names of the rule's nodes and constants start with.
RULE_PREFIX = "cam_fused"

_OPSET = 18
_MADE = ("cam_map", "cam_empty", "cam_guided", "cam_counts", "cam_labels")


def join_rule(graph: Graph, spec: CamSpec, plan: FusedPlan) -> CamSpec:
    """Add the rule's nodes to an exported graph, which is changed, and return the spec of the fused file.

    Outputs are then the model's own, those of `write_rule`, and ``cam_class``. A class that does not exist gets an
    empty map, and ``cam_class`` -1; the graph must be made for that (`guarded`).

    Raises `ExportError` where the graph is of an older opset than the rule, or has values of these names.
    """
    if graph.opset < _OPSET:
        raise ExportError(
            f"--fused: the rule needs opset {_OPSET} and the model could not be converted from {graph.opset}: export "
            "the model again with a newer opset, or export without --fused"
        )
    taken = sorted(graph.names.intersection(_MADE))
    if taken:
        raise ExportError(
            f"--fused: the model already has a value called '{taken[0]}': rename it, or export without --fused"
        )
    layer = spec.layer
    e = Emitter(graph, RULE_PREFIX)
    batch, *columns = graph.shape(spec.target) or ("N",)

    def inner(name: str, *sizes: Dim) -> Value:
        graph.types[name] = (FLOAT, (batch, *sizes))
        return e.value(name)

    a = inner(layer.activations, layer.channels, *layer.grid)
    g = inner(layer.gradients, *columns, layer.channels, *layer.grid)
    if takes_means(plan.method, plan.settings):
        g = _before_spreading(e, g, e.value(spec.target))
    detail = None if plan.detail is None or layer.detail is None else inner(layer.detail.activations, *plan.detail)
    rivals = inner(layer.rivals, *columns, layer.channels, 1, 1) if plan.rivals and layer.rivals is not None else None
    target = e.value(spec.target)
    asked = (target < spec.output.classes) & ~(target < -(1 if spec.columns is None else spec.columns.ranks))
    made = write_rule(e, plan, a, g, detail=detail, rivals=rivals, asked=asked)
    used = graph.fresh(f"{spec.chosen}_used")
    graph.rename(spec.chosen, used)
    expose(graph, e.where(asked, e.value(used), -1), spec.chosen)
    values = set(spec.inner_values)
    kept = [output for output in graph.outputs if output.name not in {*values, spec.chosen}]
    graph.outputs = [*kept, *(value_info(graph, name) for name in (*made, spec.chosen))]
    fused = FusedSpec(
        form=plan.form,
        map_size=plan.map_size,
        size=plan.size,
        **{name: f"cam_{name}" for name in ("guided", "counts", "labels") if f"cam_{name}" in made},
    )
    return replace(spec.with_method(plan.method, stated_settings(plan)), fused=fused)


def _before_spreading(e: Emitter, gradients: Value, target: Value) -> Value:
    """What `gradients` (N, ..., h, w) are everywhere, (N, ...), if the graph spreads one number over each map, as
    behind global average pooling; else `gradients`. target: the class input, (N,) or (N, K)."""
    graph = e.graph
    node = graph.producers.get(gradients.name)
    if node is not None and node.op_type == "Reshape" and gradients.rank == 5:
        rows = e.value(node.input[0])  # those of all classes, one below the other
        told = _before_spreading(e, rows, target)
        if told.rank == rows.rank:
            return gradients
        shape = e("Concat", e("Shape", target), e.ints([int(gradients.dims[2] or 0)]), axis=0)
        return e("Reshape", told, shape, shape=gradients.dims[:3])
    if node is None or node.op_type not in ("Mul", "Expand"):
        return gradients
    for name, factor in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
        shape = graph.shape(name)
        if graph.elem_type(name) != FLOAT or shape is None or shape[1:] != (*gradients.dims[1:-2], 1, 1):
            continue
        if shape[0] == 1 != gradients.dims[0]:  # spread over images as well
            continue
        # Axes of 1 at the end are taken off first: with them ONNX Runtime multiplies number by number.
        one = e.squeeze(e.value(name), [len(shape) - 2, len(shape) - 1])
        if node.op_type == "Expand":
            return one
        values = graph.constant(factor)
        if values is not None and values.size and (values == values.flat[0]).all():
            return one * float(values.flat[0])
    return gradients


def two_stage_view(graph: Graph, spec: CamSpec) -> Graph:
    """A copy of a fused graph that gives out its inner values too; its weights are shared."""
    view = graph.copy()
    view.outputs = [*view.outputs, *_shown(spec)]
    view.reindex()
    return view


def with_inner_values(source: ModelProto, spec: CamSpec) -> ModelProto:
    """A copy of a fused model, as it is in its file, that gives out its inner values too."""
    model = ModelProto()
    model.CopyFrom(source)
    model.graph.output.extend(_shown(spec))
    return model


def without_rule(source: ModelProto, spec: CamSpec) -> ModelProto:
    """A copy of a fused model as a two-stage file has it: inner values are outputs, and finished maps are none."""
    model = with_inner_values(source, spec)
    made = () if spec.fused is None else spec.fused.outputs
    kept = [output for output in model.graph.output if output.name not in made]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return model


def _shown(spec: CamSpec) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, *sizes]) for name, sizes in _inner_shapes(spec)
    ]


def _inner_shapes(spec: CamSpec) -> list[tuple[str, tuple[int | None, ...]]]:
    layer = spec.layer
    maps = (layer.channels, *layer.grid)
    columns = () if spec.columns is None else (spec.columns.count,)
    found: list[tuple[str, tuple[int | None, ...]]] = [(layer.activations, maps), (layer.gradients, (*columns, *maps))]
    if layer.detail is not None:
        found.append((layer.detail.activations, (layer.detail.channels, *layer.detail.grid)))
    if layer.rivals is not None:
        found.append((layer.rivals, (*columns, layer.channels, 1, 1)))
    return found
