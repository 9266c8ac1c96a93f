"""The batch of a plain model: fixed at one image where the model is right for single images only."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper

from ..runtime.contract.spec import InputSpec
from .errors import ExportError
from .graph import Graph
from .proof.company import refuse_company, why_single
from .proof.exported_file import coarse_values
from .proof.images import structured_images
from .reverse.score import find_score

__all__ = ["keep_batch", "restore_batch", "why_single_images"]


def keep_batch(graph: Graph, image: str, score: str | None) -> tuple[ModelProto, str] | None:
    """The model with its batch kept by every Squeeze without axes, and a note; None where none takes it away.

    For a batch of several images nothing changes. Where the batch is fixed at one, the model is changed only if its
    scores have lost it.
    """
    batch, scores = (graph.shape(image) or (None,))[0], score or graph.output_names[0]
    chosen: dict[str, list[int]] = {}
    for node in graph.nodes:
        shape = graph.shape(node.input[0]) if node.op_type == "Squeeze" and len(node.input) == 1 else None
        if shape and shape[0] == batch and all(isinstance(size, int) for size in shape[1:]):
            chosen[node.output[0]] = [axis for axis, size in enumerate(shape) if axis and size == 1]
    reached = graph.ancestors([scores]).intersection(chosen)
    fixed = isinstance(batch, int)
    if not reached or (fixed and (batch > 1 or len(graph.shape(scores) or ()) != 1)):
        return None
    for value, axes in chosen.items():
        if not axes:  # ONNX Runtime takes no axes for all of them
            graph.producers[value].op_type = "Identity"
            continue
        name = graph.fresh(f"{value}_axes")
        graph.add_constant(name, np.array(axes, np.int64))
        graph.producers[value].input.append(name)
    model = graph.to_model()
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    what = f"a Squeeze without axes ('{min(reached)}') takes the batch of a single image away"
    return model, f"{what}: in the exported file it stays"


def why_single_images(graph: Graph, spec: InputSpec, images: np.ndarray | None, score: str | None) -> str | None:
    """Why the model is right for single images only, as its scores show; None where it is right for its batch.

    Args:
        graph: the plain model.
        spec: its input.
        images: to try it with; None makes some.
        score: the name of the scores, if one was given.

    Raises:
        ExportError: an image has no answer of its own.
    """
    count = len(graph.nodes)
    try:
        found = find_score(graph, score)
        values = [*dict.fromkeys((found.output, found.value))]
    except ExportError:  # perhaps because the batch is gone at the end
        values = [name for name in [score or graph.output_names[0]] if name in graph.producers]
    batch = (graph.shape(spec.name) or (None,))[0]
    if images is None or len(images) < 2:
        images = structured_images(spec, batch if isinstance(batch, int) else 5)
    coarse = coarse_values(graph, graph.ancestors(values))
    compare = refuse_company if isinstance(batch, int) else why_single
    reason = compare(graph, spec.name, images, values, coarse=coarse)
    del graph.nodes[count:]  # what was written to find the scores is written again for the export
    graph.reindex()
    return reason


def restore_batch(graph: Graph, name: str, batch: int | None) -> bool:
    """Give the scores of a single image their batch axis back, (classes,) -> (1, classes); True when it was gone."""
    shape, kind = graph.shape(name), graph.elem_type(name)
    if batch != 1 or kind is None or shape is None or len(shape) != 1 or shape[0] == 1 or name not in graph.producers:
        return False
    row, axis = graph.fresh(f"{name}_row"), graph.fresh(f"{name}_axis")
    graph.rename(name, row)
    graph.add_constant(axis, np.array([0]))
    graph.add_node(helper.make_node("Unsqueeze", [row, axis], [name], name=graph.fresh(f"{name}_unsqueeze")))
    graph.outputs = [
        helper.make_tensor_value_info(name, kind, [1, *shape]) if output.name == name else output
        for output in graph.outputs
    ]
    graph.infer()
    return True
