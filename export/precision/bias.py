"""Putting right the mean error of rounded weights.

Rounding W to W' moves the mean of output channel o by sum_i (W' - W)[o, i] E[x_i], which does not average out: with few
weights per channel (depthwise convolutions) it is the larger part of the error, and it adds up from layer to layer. The
bias takes it back. E[x] is measured on the calibration images, in the float network. See Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from ..graph import Graph, attribute, open_graph
from ..proof.float64.quantisation import dequantize
from ..proof.session import Session
from .calibration_images import CalibrationImages

__all__ = ["Means", "channel_means", "correct_biases", "spread_means"]

Means = Mapping[str, NDArray[np.float64]]


def channel_means(model: ModelProto, images: CalibrationImages) -> dict[str, NDArray[np.float64]]:
    """Mean over images and places of each channel of what each convolution of the plain `model` reads: (C,) by name."""
    read = list(dict.fromkeys(node.input[0] for node in model.graph.node if node.op_type == "Conv"))
    image = model.graph.input[0].name
    probed = ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    # Their shapes are left to ONNX Runtime.
    probed.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in read if n != image)
    sums = {name: np.zeros(1) for name in read}
    session = Session(probed) if probed.graph.output else None
    for one in images:
        values = {} if session is None else session.run({image: one})
        for name in read:
            value = np.asarray(one if name == image else values[name], np.float64)
            sums[name] = sums[name] + value.mean(axis=(0, *range(2, value.ndim)))
    return {name: total / len(images) for name, total in sums.items()}


def correct_biases(quantised: ModelProto, plain: ModelProto, means: Means) -> ModelProto:
    """`quantised` with the biases of its convolutions corrected. plain: the float model of the same node names.

    A convolution without a bias, or whose weight is not rounded, stays as it is.
    """
    graph, _ = open_graph(quantised)
    before, _ = open_graph(plain)
    by_name = {node.name: node for node in before.nodes}
    for node in graph.nodes:
        old = by_name.get(node.name)
        if node.op_type != "Conv" or old is None or len(node.input) < 3 or old.input[0] not in means:
            continue
        weight, rounded = before.constant(old.input[1]), _value(graph, node.input[1])
        if weight is None or rounded is None or node.input[1] in graph.constants:
            continue
        shift = _mean_shift(rounded - weight, means[old.input[0]], attribute(node, "group", 1))
        _add_to_bias(graph, node, -shift)
    return graph.to_model()


def _mean_shift(error: NDArray[np.float64], mean: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """(O,), of weights (O, C / groups, ...) that are off by `error`."""
    return (error.reshape(len(error), -1) * spread_means(mean, error.shape, groups)).sum(1)


def spread_means(mean: NDArray[np.float64], shape: Sequence[int], groups: int) -> NDArray[np.float64]:
    """(O, I): what each weight of a convolution is multiplied with on average. mean: (C,). shape: the weight's."""
    outputs, inputs = shape[:2]
    seen = mean.reshape(groups, inputs)[np.arange(outputs) // (outputs // groups)]
    return np.repeat(seen, math.prod(shape[2:]), axis=1)


def _add_to_bias(graph: Graph, node: NodeProto, change: NDArray[np.float64]) -> None:
    maker = graph.producers.get(node.input[2])
    if maker is None:  # a float bias
        bias = graph.constant(node.input[2])
        if bias is not None:
            node.input[2] = _constant(graph, node.input[2], (bias + change).astype(bias.dtype))
        return
    integers, scale = graph.constant(maker.input[0]), graph.constant(maker.input[1])
    if maker.op_type != "DequantizeLinear" or integers is None or scale is None:
        return
    limits = np.iinfo(integers.dtype)
    moved = np.clip(np.rint(integers + change / scale.astype(np.float64)), limits.min, limits.max)
    maker.input[0] = _constant(graph, maker.input[0], moved.astype(integers.dtype))


def _constant(graph: Graph, base: str, array: NDArray) -> str:
    name = graph.fresh(f"{base}_corrected")
    graph.add_constant(name, array)
    graph.reindex()
    return name


def _value(graph: Graph, name: str) -> NDArray[np.float64] | None:
    """A dequantised constant."""
    node = graph.producers.get(name)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    inputs = [graph.constant(one) for one in node.input]
    if any(array is None for array in inputs):
        return None
    found = dequantize(node, [inputs[0], inputs[1].astype(np.float64), *inputs[2:]], graph.opset)  # type: ignore[union-attr]
    return None if found is NotImplemented else found
