"""The vector-Jacobian product of a model, as a model."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto

from ..graph import prune, value_info
from .core import backward, expose
from .emitter import Emitter, Value
from .opening import open_model
from .rewriting import rewrite_path

__all__ = ["vjp"]


def vjp(model: ModelProto, wrt: Sequence[str], outputs: Sequence[str]) -> ModelProto:
    """The vector-Jacobian product of a model, as a model.

    Takes the inputs of `model` and one ``cotangent_<output>`` per output, of that output's
    shape; gives one ``gradient_<value>`` per value of `wrt`: the gradient of
    sum over outputs of <cotangent, output>. Values of `wrt` may be inputs or inner values.
    """
    graph, _ = open_model(model)
    rewrite_path(graph, wrt, outputs)
    emitter = Emitter(graph)
    seeds: dict[str, Value] = {}
    for name in outputs:
        cotangent = graph.fresh(f"cotangent_{name}")
        info = value_info(graph, name)
        info.name = cotangent
        graph.inputs.append(info)
        graph.types[cotangent] = graph.types[name]
        seeds[name] = emitter.value(cotangent)
    gradients = backward(graph, emitter, seeds, wrt)
    graph.outputs = []
    for name in wrt:
        target = emitter.value(name)
        found = gradients[name]
        full = emitter.zeros_like(target) if found is None else emitter.expand(found, target)
        exposed = graph.fresh(f"gradient_{name}")
        expose(graph, full, exposed)
        graph.types[exposed] = (full.kind, target.shape)
        graph.outputs.append(value_info(graph, exposed))
    prune(graph)
    return graph.to_model()
