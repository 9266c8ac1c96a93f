"""An exported file opened for its proof: its answers, its exact tail, and what cannot be opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.export.errors import LayerError
from cfcam.export.graph import open_graph
from cfcam.export.proof.checks import prove_file
from cfcam.export.proof.exported_file import coarse_values, open_exported_file, plain_outputs
from cfcam.runtime.engines.onnxruntime.workarounds import processor_workarounds
from cfcam.runtime.errors import ArrayError, ModelFileError
from mutations import constant, rewired
from onnx import numpy_helper
from onnx_classifiers import CLASSES, written


def head(path: Path) -> np.ndarray:
    """Weights of the last layer, (classes, channels)."""
    model = onnx.load(path)
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return numpy_helper.to_array(weights[gemm.input[1]]).astype(np.float64)


def test_its_answers_by_hand(tmp_path: Path) -> None:
    """Behind a mean over 8 x 8 cells and a linear layer, the gradient is a row of the weights, divided by 64."""
    path, plain = written(tmp_path)
    file = open_exported_file(path)
    top, other = file.top, file.other
    np.testing.assert_array_equal(top.classes, top.outputs["logits"].argmax(1))
    assert (other.classes != top.classes).all()
    assert (other.classes == file.other_classes).all()
    assert len(set(file.other_classes - top.classes)) > 1
    rows = head(plain) / 64
    for answer in (top, other):
        expected = np.broadcast_to(rows[answer.classes][:, :, None, None], answer.gradients.shape)
        np.testing.assert_allclose(answer.gradients, expected, rtol=1e-6)
        np.testing.assert_allclose(file.exact.gradient(answer.classes), expected, rtol=1e-12)
    pooled = top.activations.astype(np.float64).mean((2, 3))
    bias = file.exact.scores() - pooled @ (64 * rows).T
    np.testing.assert_allclose(bias, np.broadcast_to(bias[:1], bias.shape), atol=1e-12)
    np.testing.assert_allclose(file.exact.scores(), top.outputs["logits"], rtol=1e-5, atol=1e-6)


def test_a_change_of_the_layer_is_given_its_place_among_the_images(tmp_path: Path) -> None:
    file = open_exported_file(written(tmp_path)[0])
    places: list[int] = []

    def change(value: np.ndarray, place: int) -> np.ndarray:
        places.append(place)
        return value + place

    moved = file.exact.scores(change) - file.exact.scores()
    assert places == list(range(0, len(file.images), 2))
    first = file.exact.gradient(np.zeros(len(file.images), np.int64)).sum((1, 2, 3))
    np.testing.assert_allclose(moved[:, 0], first * (np.arange(len(file.images)) // 2 * 2), rtol=1e-9, atol=1e-12)


def test_what_the_values_are(tmp_path: Path) -> None:
    found = {}
    for name in ("plain", "half", "quantised"):
        file = open_exported_file(written(tmp_path, name, "middle")[0])
        found[name] = (file.quantised, file.half, file.coarse, file.coarse_before, file.has_quantisers)
        # Where pairs of quantisers run as they stand, optimised or not is the same.
        assert (file.quantised_scores > 0) == (name == "quantised" and not processor_workarounds())
    assert found == {
        "plain": (False, False, False, False, False),
        "half": (False, True, True, True, False),
        "quantised": (True, False, True, True, True),
    }
    graph, _ = open_graph(onnx_classifiers.quantised())
    assert coarse_values(graph, graph.ancestors(["logits"]))
    assert not coarse_values(graph, ["image", "nowhere"])


def test_a_closed_file_opens_again(tmp_path: Path) -> None:
    file = open_exported_file(written(tmp_path, layer="middle")[0])
    answer = file.top
    file.release()
    assert file.graph is None
    assert file.top is answer
    again = file.explain(file.images, answer.classes)
    np.testing.assert_array_equal(again.gradients, answer.gradients)
    np.testing.assert_array_equal(file.activations(file.images[:3], 2), answer.activations[:3])


def test_outputs_of_the_plain_model(tmp_path: Path) -> None:
    path, plain = written(tmp_path, "softmax")
    file = open_exported_file(path)
    assert file.plain_names == ["last", "probabilities"]
    for source in (plain, onnx.load(plain)):
        found = plain_outputs(source, file)
        assert (list(found), found.node_by_node) == (["last", "probabilities"], None)
        np.testing.assert_allclose(found["probabilities"].sum(1), 1, rtol=1e-5)
        assert list(found.only(["probabilities", "nowhere"])) == ["probabilities"]
    assert found["probabilities"].shape == (len(file.images), CLASSES)
    path, plain = written(tmp_path, "quantised")
    file = open_exported_file(path)
    assert plain_outputs(plain, file).node_by_node is not None


def test_photos_can_be_given(tmp_path: Path) -> None:
    path, _ = written(tmp_path, layer="middle")
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    file = open_exported_file(path, images=images)
    assert file.images is images
    assert prove_file(file)
    for wrong in (images[:, :, :-1], images.astype(np.float64), images[:0], images[0]):
        with pytest.raises(ArrayError, match=r"images: expected float32 \(0, 3, 32, 32\)"):
            open_exported_file(path, images=wrong)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    _, plain = written(tmp_path)
    with pytest.raises(ModelFileError, match="was made without cfcam export"):
        open_exported_file(plain)
    path, _ = written(tmp_path, layer="middle")
    model = onnx.load(path)
    constant(model, "more", np.float32(1.1))
    rewired(model, "cam_activations", ("Mul", ["it", "more"], {}))
    onnx.save(model, path)
    with pytest.raises(LayerError, match="does not show a value"):
        open_exported_file(path)
