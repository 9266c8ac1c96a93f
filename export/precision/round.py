"""Rounding weights to float16 so that the mean of every channel stays where it was.

To the nearest number is the best for each weight and not for their sum: the mean of output channel o moves by
sum_i (W' - W)[o, i] E[x_i] + (b' - b)[o], and what the bias could take back is itself rounded away. So the weights that
lie closest to half way between two numbers go to the other one, as long as that brings the sum closer to zero.
E[x] is measured on calibration images. The idea of choosing the direction of rounding: Nagel et al., "Up or Down?
Adaptive Rounding for Post-Training Quantization", ICML 2020; here only the mean counts, which has a greedy answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ..graph import Graph, attribute, open_graph
from .bias import Means, spread_means

__all__ = ["round_weights"]


def round_weights(model: ModelProto, means: Means) -> ModelProto:
    """`model` with the float32 weights of its convolutions replaced by numbers that float16 has.

    means: of each channel of what each convolution reads, see `channel_means`. A weight that several nodes read
    stays as it is.
    """
    graph, _ = open_graph(model)
    for node in graph.nodes:
        if node.op_type != "Conv" or node.input[0] not in means or len(graph.consumers[node.input[1]]) > 1:
            continue
        weight = graph.constant(node.input[1])
        bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if weight is None or weight.dtype != np.float32:
            continue
        flat = weight.reshape(len(weight), -1).astype(np.float64)
        mean = spread_means(means[node.input[0]], weight.shape, attribute(node, "group", 1))
        shift = np.zeros(len(flat)) if bias is None else bias.astype(np.float16).astype(np.float64) - bias
        _replace(graph, node, _rounded(flat, mean, shift).reshape(weight.shape))
    return graph.to_model()


def _rounded(weight: NDArray[np.float64], mean: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """(O, I) in float16's numbers. mean: (O, I) of what each weight is multiplied with. shift: (O,) of the bias."""
    nearest = weight.astype(np.float16)
    near = nearest.astype(np.float64)
    other = np.nextafter(nearest, np.where(weight > near, np.inf, -np.inf).astype(np.float16)).astype(np.float64)
    error = ((near - weight) * mean).sum(1) + shift
    step = (other - near) * mean
    # What a channel's output loses by the other choice, cheapest first; so many are enough to undo sqrt(I) roundings.
    cost = (np.abs(other - weight) - np.abs(near - weight)) * np.abs(mean)
    count = min(weight.shape[1], 64 + 4 * int(weight.shape[1] ** 0.5))
    order = np.argsort(cost, axis=1, kind="stable")[:, :count]
    rows = np.arange(len(weight))
    for column in order.T:
        moved = error + step[rows, column]
        better = np.abs(moved) < np.abs(error)
        error = np.where(better, moved, error)
        near[rows[better], column[better]] = other[rows[better], column[better]]
    return near


def _replace(graph: Graph, node, weight: NDArray[np.float64]) -> None:
    name = graph.fresh(f"{node.input[1]}_rounded")
    graph.add_constant(name, weight.astype(np.float32))
    node.input[1] = name
    graph.reindex()
