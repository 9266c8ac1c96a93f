"""Whether what a file says about itself is what its graph is."""

from __future__ import annotations

import math

from onnx import helper

from ...runtime.contract.spec import CamSpec
from ..graph import Graph, Shape

__all__ = ["contradictions"]


def contradictions(graph: Graph, spec: CamSpec) -> list[str]:
    """Where the `CamSpec` says something else than the graph does: of the input, the scores and the layers.

    graph: of an exported file, opened. Sizes that the graph leaves open contradict nothing.
    """
    inputs, outputs, found = graph.input_names, graph.output_names, []
    names = {name for layer in spec.layers for name in (layer.activations, layer.gradients)}
    for what, wanted, known in (
        ("input", {spec.input.name, spec.target}, inputs),
        ("output", {spec.output.name, spec.chosen, *names}, outputs),
    ):
        missing = sorted(wanted.difference(known))
        found += [f"it names the {what} '{name}', the graph has {', '.join(known)}" for name in missing]
    if found:
        return found
    shape, kind = graph.shape(spec.input.name), graph.elem_type(spec.input.name)
    dtype = "unknown" if kind is None else helper.tensor_dtype_to_np_dtype(kind).name
    said = spec.input.shape(0)
    if dtype != spec.input.dtype or not _fits(shape, said):
        found.append(
            f"input '{spec.input.name}' is {spec.input.dtype} {_written(said)}, in the graph it is "
            f"{dtype} {_written(shape)}"
        )
    scores = graph.shape(spec.output.name)
    fixed = None if scores is None else [size for size in scores[1:] if isinstance(size, int)]
    if scores is not None and fixed is not None and len(fixed) == len(scores) - 1:
        width = math.prod(fixed)
        if width != spec.output.classes:
            found.append(f"it has {spec.output.classes} classes, output '{spec.output.name}' has {width} of them")
    for layer in spec.layers:
        maps = (0, layer.channels, *layer.grid)
        by_class = maps if spec.columns is None else (0, spec.columns.count, *maps[1:])
        for name, sizes in ((layer.activations, maps), (layer.gradients, by_class)):
            if not _fits(graph.shape(name), sizes):
                found.append(f"'{name}' is {_written(sizes)}, in the graph it is {_written(graph.shape(name))}")
    classes = (0,) if spec.columns is None else (0, spec.columns.count)
    if not _fits(graph.shape(spec.target), classes):
        found.append(f"'{spec.target}' is {_written(classes)}, in the graph it is {_written(graph.shape(spec.target))}")
    return found


def _fits(shape: Shape | None, said: Shape) -> bool:
    """Whether a value may have the stated sizes, batches set aside."""
    if shape is None:
        return True
    return len(shape) == len(said) and all(
        not isinstance(size, int) or not isinstance(wanted, int) or size == wanted
        for size, wanted in zip(shape[1:], said[1:], strict=True)
    )


def _written(shape: Shape | None) -> str:
    return "of unknown shape" if shape is None else f"(N, {', '.join(str(size or '?') for size in shape[1:])})"
