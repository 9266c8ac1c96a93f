"""A model as the graph that the backward walk expects."""

from __future__ import annotations

import math

from onnx import ModelProto

from ...runtime.errors import ModelFileError
from ..axes.onnx_values import settle_sizes
from ..errors import UnsupportedOperatorError
from ..graph import Graph, fold_constants, open_graph, take_known_branches
from ..graph.passes import repeat
from .rewriting import is_fused, settle_fused

__all__ = ["open_model", "refuse_randomness"]

# Where ONNX Runtime puts operators on values in the memory layout of one processor.
_LAYOUT_DOMAINS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")

_RANDOM = {
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
}  # fmt: skip

# Of one value. Activations of real classifiers stay far below.
_MOST_ELEMENTS = 2**31


def open_model(model: ModelProto) -> tuple[Graph, list[str]]:
    """The normalised model with its constants folded and all shapes known, and notes for the user.

    Large weights are shared with `model`, which is not changed. Raises what `normalise` raises,
    and `UnsupportedOperatorError` for a model that was optimised for one processor.
    """
    graph, notes = open_graph(model)
    bound = [n for n in graph.nodes if n.domain in _LAYOUT_DOMAINS]
    if bound:
        raise UnsupportedOperatorError(
            f"{len(bound)} nodes ('{bound[0].name}' is one) belong to the domain {bound[0].domain}: ONNX Runtime "
            "optimised this model for the memory layout of one processor; give the model from before that, or one "
            "that was optimised at the level ORT_ENABLE_EXTENDED"
        )
    _refuse_sizes_beyond_reason(graph)
    # A folded size lets inference find a shape, whose sizes then fold in turn.
    repeat(graph, fold_constants, take_known_branches)
    fused = [n for n in graph.nodes if is_fused(n)]
    if fused:
        settle_fused(graph)
        repeat(graph, fold_constants, take_known_branches)
        kinds = ", ".join(sorted({n.op_type for n in fused}))
        notes.append(
            f"{len(fused)} nodes are ONNX Runtime's own ({kinds}); those behind the layer are written out in standard "
            "operators, those before it stay, and run in ONNX Runtime only"
        )
    settle_sizes(graph)
    repeat(graph, fold_constants, take_known_branches)
    return graph, notes


def refuse_randomness(graph: Graph) -> None:
    """Raise `UnsupportedOperatorError` where an output depends on random numbers: a photo has one explanation."""
    reached = graph.ancestors(graph.output_names)
    for node in graph.nodes:
        if node.op_type not in _RANDOM or not any(output in reached for output in node.output):
            continue
        training = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if node.op_type == "Dropout" and (training is None or not training.any()):
            continue
        raise UnsupportedOperatorError(
            f"{node.op_type} node '{node.name}': the model draws random numbers in every inference, so that a photo "
            "gets another answer each time; let it do so in training only (in PyTorch nn.Dropout, or "
            "F.dropout(x, p, self.training)), and export it again"
        )


def _refuse_sizes_beyond_reason(graph: Graph) -> None:
    """Sizes come from the file, and some constants are as long as an axis: none may fill the memory."""
    for name, (_, shape) in graph.types.items():
        count = math.prod(d for d in shape or () if isinstance(d, int))
        if count > _MOST_ELEMENTS:
            raise ModelFileError(f"value '{name}' of shape {shape} would hold {count} elements: is the file damaged?")
