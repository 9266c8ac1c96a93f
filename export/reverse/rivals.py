"""The rivals' gradient: what speaks for the other classes, so that a map can show what speaks for this one alone.

With z the logits and c the explained class, the gradient of logsumexp over j != c of z_j with respect to the layer: the
others' gradients, weighed by the softmax over them. The idea of contrast: Wang and Wang, "Why Not Other Classes?",
NeurIPS 2022. Written only where it costs one vector-matrix product: behind the layer nothing but a pooling and a linear
head, whose gradient is the same at every place.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..graph import Graph
from .candidates import Candidate
from .core import backward
from .emitter import Emitter, Value
from .path import find_path
from .score import Score

__all__ = ["rivals_gradient"]

_SUMS = {"Add", "Sub", "Sum", "Concat"}
#: In the one of their inputs that comes from the layer.
_LINEAR = _SUMS | {
    "GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum", "Gemm", "MatMul", "Conv", "BatchNormalization",
    "Mul", "Div", "Neg", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Cast",
    "Slice", "Gather", "Split", "Expand", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip


def rivals_gradient(
    graph: Graph, emitter: Emitter, score: Score, classes: Value, layer: Candidate, slope: Value | None
) -> Value | None:
    """The rivals' gradient float32 (N, C, 1, 1) at `layer`; None where the head is not linear, or there are no rivals.

    classes: int64 (N,), the explained ones. slope: the gradient of their scores at the layer.
    """
    if score.kind not in ("logits", "softmax") or score.classes < 2 or slope is None:
        return None
    constant = all(slope.dims[axis] == 1 for axis in layer.axes.grid_axes)
    if not constant or not _is_linear(graph, layer.name, score.value):
        return None
    seed = _share_of_rivals(graph, emitter, score, classes)
    found = backward(graph, emitter, {score.value: seed}, [layer.name])[layer.name]
    if found is None:
        return None
    if layer.layout == "NHWC":
        found = emitter.transpose(found, [0, 3, 1, 2])
    elif layer.layout == "NTC":
        found = emitter.unsqueeze(emitter.transpose(found, [0, 2, 1]), [3])
    return emitter.cast(found, TensorProto.FLOAT)


def _is_linear(graph: Graph, layer: str, score: str) -> bool:
    """Whether nothing but linear operators lies between the two, and what quantisation puts between these."""
    path = find_path(graph, [layer], [score])
    for node in path.nodes:
        read = [name for name in node.input if name in path.values]
        if node.op_type not in _LINEAR or (len(read) > 1 and node.op_type not in _SUMS):
            return False
    return True


def _share_of_rivals(graph: Graph, emitter: Emitter, score: Score, classes: Value) -> Value:
    """Softmax over the logits of all classes but the explained one, which gets 0, in the shape of the scores."""
    value = emitter.value(score.value)
    flat = value if len(score.shape) == 2 else emitter.reshape(value, value, (score.shape[0], score.classes))
    is_chosen = emitter.unsqueeze(classes, [1]).equals(emitter.constant(np.arange(score.classes)[None]))
    least = float(np.finfo(flat.dtype).min) / 2
    shares = emitter("Softmax", emitter.where(is_chosen, least, flat), axis=1)
    return shares if len(score.shape) == 2 else emitter.reshape(shares, value, score.shape)
