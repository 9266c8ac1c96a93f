"""Outputs that are no tensors of numbers: what is put in their place, and the labels that they name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cfcam.export.sources.onnx_outputs import tensor_outputs
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from score_heads import IMAGES, head, node, run

LABELS = ["ant", "bee", "cat", "dog", "elk"]
SOFTMAX = node("Softmax", ["logits"], ["p"], axis=1)


def dictionary(name: str) -> ValueInfoProto:
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    return helper.make_value_info(
        name, helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.STRING, number))
    )


def with_dictionary(**labels: Any) -> ModelProto:
    model = head([SOFTMAX, node("ZipMap", ["p"], ["dict"], domain="ai.onnx.ml", **labels)])
    del model.graph.output[:]
    model.graph.output.append(dictionary("dict"))
    return model


def test_a_model_of_numbers_is_given_back_as_it_is() -> None:
    model = head(outputs={"logits": TensorProto.FLOAT})
    found, labels, notes = tensor_outputs(model)
    assert found is model
    assert (labels, notes) == (None, [])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"classlabels_strings": LABELS}, tuple(LABELS)),
        ({"classlabels_int64s": [3, 1, 4, 0, 5]}, ("3", "1", "4", "0", "5")),
    ],
)
def test_the_scores_in_front_of_a_dictionary_become_the_output(
    labels: dict[str, Any], expected: tuple[str, ...]
) -> None:
    model = with_dictionary(**labels)
    before = model.SerializeToString()
    found, kept, notes = tensor_outputs(model)
    assert model.SerializeToString() == before
    assert kept == expected
    assert [output.name for output in found.graph.output] == ["p"]
    assert [one.op_type for one in found.graph.node][-1] == "Softmax", "nothing is left that makes dictionaries"
    powers = np.exp(run(head(outputs={"logits": TensorProto.FLOAT}))["logits"].astype(np.float64))
    np.testing.assert_allclose(run(found)["p"], powers / powers.sum(1, keepdims=True), rtol=1e-5)
    assert notes == ["'dict': no tensor of numbers, left out; 'p' holds what it was made of; its labels were kept"]


def test_the_name_of_the_best_class_gives_its_labels_and_no_output() -> None:
    nodes = [
        node("ArgMax", ["logits"], ["best"], axis=1),
        node("ArrayFeatureExtractor", ["names", "best"], ["label"], domain="ai.onnx.ml"),
    ]
    names = {"names": np.array(LABELS, object)}
    model = head(nodes, names, {"logits": TensorProto.FLOAT, "label": TensorProto.STRING})
    found, kept, notes = tensor_outputs(model)
    assert kept == tuple(LABELS)
    assert [output.name for output in found.graph.output] == ["logits"]
    assert {one.op_type for one in found.graph.node} == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "MatMul"}
    assert "names" not in {tensor.name for tensor in found.graph.initializer}
    assert notes == ["'label': no tensor of numbers, left out; its labels were kept"]
    assert run(found)["logits"].shape == (len(IMAGES), 5)


def test_scores_that_are_an_output_already_are_not_added_again() -> None:
    model = with_dictionary(classlabels_strings=LABELS)
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    found, _, notes = tensor_outputs(model)
    assert [output.name for output in found.graph.output] == ["p"]
    assert "holds what it was made of" not in notes[0]
