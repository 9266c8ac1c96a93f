"""A model as the backward walk expects it: folded, with shapes, or refused for what no passes mend."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import Graph
from cfcam.export.reverse.opening import open_model, refuse_randomness
from cfcam.runtime.errors import ModelFileError
from onnx import ModelProto, TensorProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def test_a_size_that_folds_gives_a_shape_whose_size_folds_in_turn() -> None:
    info = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    bodies = [helper.make_graph([helper.make_node(op, ["tall"], ["r"])], op, [], [info]) for op in ("Exp", "Neg")]
    nodes = [
        helper.make_node("Shape", ["w"], ["size"]),  # (2, 6)
        helper.make_node("Concat", ["free", "size"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["tall"]),  # (-1, 2, 6)
        helper.make_node("Shape", ["tall"], ["seen"], start=2, end=3),
        helper.make_node("Equal", ["seen", "six"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    constants = {"w": normal(2, 6), "free": np.array([-1]), "six": np.array([6])}
    source = make(nodes, constants, inputs={"x": ["N", 12]})
    before = source.SerializeToString()
    graph, notes = open_model(source)
    assert [node.op_type for node in graph.nodes] == ["Reshape", "Exp"]
    assert graph.shape("y") is not None
    assert (graph.shape("y") or ())[1:] == (2, 6)
    assert notes == []
    assert source.SerializeToString() == before
    x = normal(3, 12)
    np.testing.assert_allclose(run_ort(graph.to_model(), {"x": x})[0], np.exp(x).reshape(3, 2, 6), rtol=1e-6)


def test_a_size_that_only_a_batch_of_numbers_tells_decides_a_branch() -> None:
    """All elements by the number of images: 48 whatever that is, which inference does not see."""
    info = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    bodies = [helper.make_graph([helper.make_node(op, ["flat"], ["r"])], op, [], [info]) for op in ("Exp", "Neg")]
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Shape", ["x"], ["images"], start=0, end=1),
        helper.make_node("ReduceProd", ["shape"], ["all"]),
        helper.make_node("Div", ["all", "images"], ["each"]),
        helper.make_node("Concat", ["images", "each"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Shape", ["flat"], ["seen"], start=1, end=2),
        helper.make_node("Equal", ["seen", "wide"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    graph, _ = open_model(make(nodes, {"wide": np.array([48])}, inputs={"x": ["N", 3, 4, 4]}))
    assert graph.shape("flat") == ("N", 48)
    assert "If" not in {node.op_type for node in graph.nodes}
    x = normal(2, 3, 4, 4)
    np.testing.assert_allclose(run_ort(graph.to_model(), {"x": x})[0], np.exp(x).reshape(2, 48), rtol=1e-6)


def microsoft(op: str, inputs: list[str], domain: str = "com.microsoft") -> ModelProto:
    model = make([helper.make_node(op, inputs, ["y"], name="fused", domain=domain)], {"b": normal(4)})
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def test_operators_of_onnx_runtime_get_shapes_and_a_note() -> None:
    graph, notes = open_model(microsoft("BiasGelu", ["x", "b"]))
    assert [node.op_type for node in graph.nodes] == ["BiasGelu"], "off every path it stays as it is"
    assert graph.shape("y") == ("N", 4)
    assert len(notes) == 1
    assert notes[0].startswith("1 nodes are ONNX Runtime's own (BiasGelu); those behind the layer are written out")


def test_the_memory_layout_of_one_processor_is_refused() -> None:
    with pytest.raises(
        UnsupportedOperatorError, match=r"1 nodes \('fused' is one\) belong to the domain com\.microsoft\.nchwc"
    ):
        open_model(microsoft("ReorderInput", ["x"], "com.microsoft.nchwc"))


def test_sizes_beyond_reason_are_refused() -> None:
    source = make([helper.make_node("Relu", ["x"], ["y"])], inputs={"x": [3, 2**16, 2**15]})
    with pytest.raises(ModelFileError, match=r"value 'x' of shape \(3, 65536, 32768\) would hold 6442450944 elements"):
        open_model(source)


def dropout(training: bool | None) -> Graph:
    names = ["x", "ratio"] if training is None else ["x", "ratio", "training"]
    constants = {"ratio": np.array(0.5, np.float32)} | ({} if training is None else {"training": np.array(training)})
    return Graph(make([helper.make_node("Dropout", names, ["y"], name="drop")], constants))


def test_randomness_on_the_way_to_an_output_is_refused() -> None:
    refuse_randomness(dropout(None))
    refuse_randomness(dropout(False))
    with pytest.raises(
        UnsupportedOperatorError, match="Dropout node 'drop': the model draws random numbers in every inf"
    ):
        refuse_randomness(dropout(True))
    noise = helper.make_node("RandomNormalLike", ["x"], ["noise"], name="noise")
    refuse_randomness(Graph(make([noise, helper.make_node("Relu", ["x"], ["y"])])))
    with pytest.raises(UnsupportedOperatorError, match="RandomNormalLike node 'noise'"):
        refuse_randomness(Graph(make([noise, helper.make_node("Add", ["x", "noise"], ["y"])])))
