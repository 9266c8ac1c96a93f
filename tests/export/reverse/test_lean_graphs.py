"""What `differentiate` writes: nothing twice, nothing in vain, nothing that TensorRT refuses.

And what it says when it cannot.
"""

from __future__ import annotations

import collections
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from cfcam.calibration.tensorrt_table import tensorrt_refusals
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import Graph, fold_constants, load_model, prune
from cfcam.export.graph.pruning import node_key
from cfcam.export.reverse import differentiate
from onnx import ModelProto, TensorProto, helper
from onnx_nets import (
    CLASSES,
    body,
    classifier,
    conv_head,
    deep_head,
    gated_head,
    keras_classifier,
    linear_head,
    matmul_head,
    model,
    quantised_classifier,
    restart,
    stored_twice,
    token_classifier,
    weights,
)
from shared_data import shared_path


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    restart()


def pooled_head():
    """Overlapping and padded pooling, resizing, padding, slicing, gathering: all without scatter."""
    nodes = [
        helper.make_node("MaxPool", ["features"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["m", "", "scales"], ["r"], mode="linear"),
        helper.make_node("AveragePool", ["r"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Pad", ["a", "pads"], ["p"], mode="reflect"),
        helper.make_node("Gather", ["p", "order"], ["g"], axis=1),
        helper.make_node("Slice", ["g", "from", "to", "axes"], ["s"]),
        helper.make_node("InstanceNormalization", ["s", "one", "nil"], ["n"]),
        helper.make_node("GlobalMaxPool", ["n"], ["top"]),
        helper.make_node("Flatten", ["top"], ["flat"]),
        helper.make_node("Gemm", ["flat", "wh"], ["logits"], transB=1),
    ]
    constants = {
        "scales": np.array([1, 1, 2, 2], np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "order": np.array([5, 0, 3, 3, 1, 2]), "from": np.array([1]), "to": np.array([100]), "axes": np.array([2]),
        "one": np.ones(6, np.float32), "nil": np.zeros(6, np.float32), "wh": weights(CLASSES, 6),
    }  # fmt: skip
    return nodes, constants


GRAPHS: dict[str, tuple[Callable[[], ModelProto], str | None]] = {
    "one linear layer": (classifier, None),
    "one linear layer, middle": (classifier, "a1"),
    "convolution as the head": (lambda: classifier(conv_head), "a1"),
    "product and sum": (lambda: classifier(matmul_head), None),
    "two linear layers": (lambda: classifier(deep_head), None),
    "two linear layers, middle": (lambda: classifier(deep_head), "a1"),
    "squeeze and excitation": (lambda: classifier(gated_head), "a1"),
    "fixed batch": (lambda: classifier(gated_head, batch=2), "a1"),
    "pooling, resizing, indexing": (lambda: classifier(pooled_head), None),
    "tokens": (token_classifier, None),
    "quantised": (quantised_classifier, "a1"),
    "Keras": (lambda: keras_classifier(optimised=False), "model/add"),
    "Keras, optimised": (lambda: keras_classifier(optimised=True), "model/add"),
    "opset 9": (lambda: classifier(conv_head, opset=9), "a1"),
    "MobileNetV2": (lambda: load_model(shared_path("models/mobilenet_v2_1.0_224.onnx")), "t153"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_twice_and_nothing_in_vain(name: str) -> None:
    make, layer = GRAPHS[name]
    source = make()
    made = differentiate(source, layer).model
    onnx.checker.check_model(made, full_check=True)
    graph = Graph(made)
    # Dead nodes and unused weights.
    constants = len(graph.constants)
    assert prune(graph) == 0
    assert len(graph.constants) == constants
    # Computed twice. What the source itself computes twice is the engine's affair.
    keys = collections.Counter(key for n in made.graph.node if (key := node_key(n)) is not None)
    before = collections.Counter(key for n in source.graph.node if (key := node_key(n)) is not None)
    assert {k: n for k, n in keys.items() if n > 1 and n > before[k]} == {}
    assert stored_twice(made) == []
    # Left to compute that is known now, in what was added.
    added = [n for n in graph.nodes if n.name.startswith("cam")]
    assert added
    names = {n.name for n in added}
    fold_constants(graph)
    assert names <= {n.name for n in graph.nodes}
    assert not [r for r in tensorrt_refusals(made) if r.node]


def test_shared_subexpressions_are_those_of_the_forward_pass() -> None:
    """The gate's output is read, not computed again."""
    made = differentiate(classifier(gated_head), "a1").model
    assert [n.op_type for n in made.graph.node].count("Sigmoid") == 1
    readers = [n.name for n in made.graph.node if "gate" in n.input and n.name.startswith("cam")]
    assert readers


# -- what it says when it cannot


def blocked(op: str, domain: str = "", more: list[str] | None = None) -> ModelProto:
    """An operator between ``a1`` and the second convolution."""
    nodes, constants = body()
    odd = helper.make_node("Sum" if domain else op, ["a1", *(more or [])], ["odd"], name="oddity")
    nodes[3].input[0] = "odd"
    head, extra = linear_head()
    made = model([*nodes[:3], odd, *nodes[3:], *head], {**constants, **extra, "grid": weights(2, 6, 6, 2)}, batch=2)
    if domain:
        made.graph.node[3].op_type, made.graph.node[3].domain = op, domain
        made.opset_import.append(helper.make_opsetid(domain, 1))
    made.graph.value_info.append(helper.make_tensor_value_info("odd", TensorProto.FLOAT, [2, 8, 6, 6]))
    return made


BLOCKERS = {
    "of a vendor": (lambda: blocked("Strange", "vendor"), "vendor::Strange"),
    "of ONNX": (lambda: blocked("GridSample", more=["grid"]), "GridSample"),
}


@pytest.mark.parametrize("name", BLOCKERS)
def test_operator_without_a_rule(name: str) -> None:
    """Named with its node, with what reaches it, and with the nearest layer behind it, which does work."""
    make, operator = BLOCKERS[name]
    source = make()
    sentence = (
        rf"{operator} node 'oddity' has no derivative rule; layer 'a1' reaches it by 'a1'; "
        rf"the nearest layer behind it that works is 'odd' \({operator.split(':')[-1]}, shape \(2, 8, 6, 6\)\)"
    )
    with pytest.raises(UnsupportedOperatorError, match=sentence):
        differentiate(source, "a1")
    # Taken at its word.
    assert differentiate(source, "odd").layer.name == "odd"


def test_form_that_a_rule_does_not_cover() -> None:
    """A covered operator in a form that is not: the same advice."""
    nodes, constants = body()
    odd = helper.make_node("BatchNormalization", ["a1", "s1", "b1", "m1", "v1"], ["odd", "", ""], name="oddity")
    odd.attribute.append(helper.make_attribute("training_mode", 1))
    del odd.output[1:]
    odd.output.extend(["mean", "variance"])
    nodes[3].input[0] = "odd"
    more, extra = linear_head()
    source = model([*nodes[:3], odd, *nodes[3:], *more], {**constants, **extra})
    sentence = r"BatchNormalization node 'oddity': it is in training mode.*layer 'a1' reaches it by 'a1'.* is 'odd'"
    with pytest.raises(UnsupportedOperatorError, match=sentence):
        differentiate(source, "a1")
    assert differentiate(source, "odd").layer.name == "odd"


def test_integer_only_operator_asks_for_the_other_form() -> None:
    """As a static quantisation in QOperator form writes it, with the way round."""
    nodes, constants = body()
    more, extra = linear_head()
    scale, zero = np.array(0.02, np.float32), np.array(0, np.uint8)
    quantised = {
        "s": scale, "z": zero, "wq": kernel(), "ws": np.array(0.01, np.float32), "wz": np.array(0, np.int8),
    }  # fmt: skip
    operands = ["a1_q", "s", "z", "wq", "ws", "wz", "s", "z"]
    middle = [
        helper.make_node("QuantizeLinear", ["a1", "s", "z"], ["a1_q"], name="q"),
        helper.make_node("QLinearConv", operands, ["c2_q"], name="qconv", pads=[1, 1, 1, 1]),
        helper.make_node("DequantizeLinear", ["c2_q", "s", "z"], ["c2"], name="dq"),
    ]
    source = model([*nodes[:3], *middle, *nodes[4:], *more], {**constants, **extra, **quantised})
    sentence = (
        r"QLinearConv node 'qconv': an integer-only quantised operator.*QDQ form.*the nearest layer .* 'features'"
    )
    with pytest.raises(UnsupportedOperatorError, match=sentence):
        differentiate(source, "a1")
    assert differentiate(source, "features").layer.name == "features"


def kernel() -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 100, (6, 8, 3, 3)).astype(np.int8)
