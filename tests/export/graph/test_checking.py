"""Models that no pass may look at are refused in one sentence each; those that are right pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cfcam.export.graph.checking import check_nodes, check_tensors, check_values
from cfcam.runtime.errors import ModelFileError
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from small_graphs import linear, make


def with_weight(**changes: Any) -> ModelProto:
    model = linear()  # its weight `w` is (300, 4) in float32
    for name, value in changes.items():
        setattr(model.graph.initializer[0], name, value)
    return model


def with_dims(*dims: int) -> ModelProto:
    model = linear()
    model.graph.initializer[0].dims[:] = dims
    return model


def with_constant() -> ModelProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32))
    tensor.raw_data = tensor.raw_data[:-1]
    return make([helper.make_node("Constant", [], ["y"], value=tensor)])


TENSORS: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "type": (lambda: with_weight(data_type=999), "weight 'w' has the unknown element type 999: the file is damaged"),
    "negative size": (lambda: with_dims(-300, 4), r"weight 'w' has the shape \(-300, 4\), and no size can be negative"),
    "another file": (lambda: with_weight(data_location=TensorProto.EXTERNAL), "read the model with load_model"),
    "too short": (lambda: with_dims(301, 4), r"of shape \(301, 4\) needs 4816 bytes and has 4800: the file is damaged"),
    "constant": (with_constant, r"a constant of shape \(4,\) needs 16 bytes and has 15"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_damaged_arrays(name: str) -> None:
    make_model, sentence = TENSORS[name]
    with pytest.raises(ModelFileError, match=sentence):
        check_tensors(make_model())


@pytest.mark.parametrize(("kind", "count", "size"), [(TensorProto.INT4, 5, 3), (TensorProto.BFLOAT16, 5, 10)])
def test_bytes_of_narrow_types(kind: int, count: int, size: int) -> None:
    """Two numbers of four bits share a byte; the last one has it alone."""
    for length, right in ((size, True), (size + 1, False)):
        model = with_weight(data_type=kind, raw_data=bytes(length))
        model.graph.initializer[0].dims[:] = [count]
        if right:
            check_tensors(model)
        else:
            with pytest.raises(ModelFileError, match=rf"needs {size} bytes and has {length}"):
                check_tensors(model)


def test_unknown_types_of_inputs_and_outputs() -> None:
    for role in ("input", "output"):
        model = linear()
        check_values(model)
        getattr(model.graph, role)[0].type.tensor_type.elem_type = 77
        with pytest.raises(ModelFileError, match=f"{role} '[xy]' has the unknown element type 77"):
            check_values(model)


def odd(node: NodeProto, **changes: Any) -> ModelProto:
    for name, value in changes.items():
        setattr(node, name, value)
    node.name = "n"
    return make([node])


def wrong_kind() -> NodeProto:
    node = helper.make_node("LeakyRelu", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="alpha", type=AttributeProto.INT, i=1))
    return node


NODES: dict[str, tuple[ModelProto, str]] = {
    "no operator": (odd(helper.make_node("Relu", ["x"], ["y"]), op_type=""), "node 'n' names no operator"),
    "domain": (odd(helper.make_node("Relu", ["x"], ["y"]), domain="vendor"), "of which the model imports no version"),
    "few inputs": (odd(helper.make_node("Conv", ["x"], ["y"])), r"\(Conv\) has 1 inputs, expected 2 to 3"),
    "many inputs": (odd(helper.make_node("Relu", ["x", "x"], ["y"])), "has 2 inputs, expected 1"),
    "few of any number": (odd(helper.make_node("Concat", [], ["y"], axis=0)), "has 0 inputs, expected 1 or more"),
    "many outputs": (odd(helper.make_node("Relu", ["x"], ["y", "z"])), "has 2 outputs, expected 1"),
    "empty input": (odd(helper.make_node("Conv", ["x", ""], ["y"])), r"lacks its input 1 \('W'\)"),
    "no attribute": (odd(helper.make_node("Cast", ["x"], ["y"])), "lacks its attribute 'to'"),
    "kind of attribute": (
        odd(wrong_kind()),
        r"attribute 'alpha' of node 'n' \(LeakyRelu\) is of type INT, expected FLOAT",
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes_that_their_operator_does_not_allow(name: str) -> None:
    model, sentence = NODES[name]
    with pytest.raises(ModelFileError, match=sentence):
        check_nodes(model)


def test_two_versions_of_one_domain() -> None:
    model = linear()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    with pytest.raises(ModelFileError, match=r"two versions of the operators of 'ai\.onnx'"):
        check_nodes(model)


def test_what_onnx_does_not_define_is_taken_as_it_is() -> None:
    """An operator of somebody else put into the default domain, as ONNX Runtime's optimiser does."""
    check_nodes(make([helper.make_node("FusedConv", ["x"], ["y", "z"])]))
    check_nodes(linear())
    check_tensors(linear())
