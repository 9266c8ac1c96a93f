"""Cutting the tail out of exported files: in every layout, with ways round the layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime as ort
import pytest
from cfcam.export.errors import LayerError
from cfcam.export.proof.float64 import Evaluator
from cfcam.export.tail.cutting import Tail, cut_tail
from cfcam.export.writing import set_spec
from cfcam.runtime.contract.spec import METADATA_KEY, CamSpec
from onnx import ModelProto, TensorProto, helper
from onnx_classifiers import exported


def run(model: ModelProto, more: tuple[str, ...] = (), count: int = 4) -> dict[str, np.ndarray]:
    """Everything that the exported file gives for random images, and inner values."""
    whole = ModelProto()
    whole.CopyFrom(model)
    present = {o.name for o in model.graph.output}
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    whole.graph.output.extend(i for i in inferred if i.name in more and i.name not in present)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    values = np.random.default_rng(1).standard_normal((count, *image.shape[1:]))
    values = values.astype(np.float16 if "16" in image.type else np.float32)
    classes = next(o.shape[1] for o in session.get_outputs() if len(o.shape) == 2)
    feeds = {image.name: values, "cam_target": np.minimum(np.arange(count), classes) - 1}
    names = [o.name for o in session.get_outputs()]
    return {"image": values, **dict(zip(names, map(np.asarray, session.run(None, feeds)), strict=True))}


def evaluate(tail: Tail, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    feeds = {tail.layer: tail.layer_value(found["cam_activations"], found), "cam_target": found["cam_class"]}
    return Evaluator(tail.model).run({**feeds, **{name: found[name] for name in tail.others}})


@pytest.mark.parametrize("which", ["default", "middle"])
@pytest.mark.parametrize("name", onnx_classifiers.NETS)
def test_the_tail_gives_the_file_s_own_scores_and_gradients(name: str, which: str) -> None:
    layer = None if which == "default" else onnx_classifiers.NETS[name][1]
    model, spec = exported(onnx_classifiers.make(name), layer)
    tail = cut_tail(model, spec, gradients=True)
    found = run(model, tail.needed)
    values = evaluate(tail, found)
    rough = 1e-2 if name == "half" else 2e-5
    scores = values[tail.score].reshape(len(found["image"]), -1)
    want = found[spec.output.name].astype(np.float64)
    kinds = {
        "softmax": lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True),
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    }
    np.testing.assert_allclose(kinds.get(spec.output.kind, lambda z: z)(scores), want, rtol=rough, atol=rough)
    np.testing.assert_array_equal(values["cam_class"], found["cam_class"])
    gradients = found["cam_gradients"]
    assert np.abs(gradients).max() > 1e-6
    np.testing.assert_allclose(values["cam_gradients"], gradients, rtol=0, atol=rough * np.abs(gradients).max())
    expected = {"tokens": {"default": 1, "middle": 1}, "branch": {"middle": 1}}
    assert len(tail.needed) == expected.get(name, {}).get(which, 0), tail.needed
    # The image goes into none of them, not even to be asked for its batch.
    assert {i.name for i in tail.model.graph.input} == {tail.layer, *tail.others, spec.target}
    onnx.checker.check_model(tail.model)


def test_scores_alone_need_no_target() -> None:
    model, spec = exported(onnx_classifiers.plain(), "middle")
    tail = cut_tail(model, spec)
    assert [i.name for i in tail.model.graph.input] == [tail.layer]
    assert [o.name for o in tail.model.graph.output] == [tail.score]
    assert {n.op_type for n in tail.model.graph.node} == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}


def test_the_index_maps_cells_and_channels_of_every_layout() -> None:
    for name, layer in (("plain", "middle"), ("keras", "early"), ("tokens", "stream")):
        model, spec = exported(onnx_classifiers.make(name), layer)
        tail = cut_tail(model, spec)
        found = run(model, (tail.layer,))
        assert tail.index.shape == found["cam_activations"].shape[1:]
        np.testing.assert_array_equal(tail.maps(found[tail.layer]), found["cam_activations"])
        np.testing.assert_array_equal(tail.layer_value(found["cam_activations"], found), found[tail.layer])
        assert tail.complete == (name != "tokens")


def test_a_changed_cell_changes_the_layer_at_its_own_place() -> None:
    model, spec = exported(onnx_classifiers.keras(), "early")
    tail = cut_tail(model, spec)
    activations = run(model)["cam_activations"]
    before = tail.layer_value(activations)
    activations[:, 2, 3, 5] += 1
    value = tail.layer_value(activations)
    assert value.shape == (4, 8, 8, 8)
    want = np.zeros(value.shape, bool)
    want[:, 3, 5, 2] = True
    np.testing.assert_array_equal(value != before, want)


@pytest.mark.slow
def test_a_traced_export_has_a_tail_too(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from cfcam.export import export_torch
    from small_nets import ConvNet, seeded

    report = export_torch(seeded(ConvNet()), 40, tmp_path / "x.cam.onnx", layer="act:1")
    model = onnx.load(report.path)
    tail = cut_tail(model, report.spec, gradients=True)
    found = run(model, tail.needed)
    values = evaluate(tail, found)
    np.testing.assert_allclose(values[tail.score], found[report.spec.output.name], atol=1e-5)
    np.testing.assert_allclose(values["cam_gradients"], found["cam_gradients"], atol=1e-5)


def test_a_fixed_batch_is_kept() -> None:
    model, spec = exported(onnx_classifiers.plain(batch=2))
    tail = cut_tail(model, spec, gradients=True)
    assert tail.shape == (2, 16, 8, 8)
    found = run(model, count=2)
    np.testing.assert_allclose(evaluate(tail, found)[tail.score], found["logits"], atol=1e-5)


def test_activations_that_are_not_on_the_way_are_refused() -> None:
    model, spec = exported(onnx_classifiers.plain(), "middle")
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == "cam_activations":
                    names[position] = "elsewhere"
    model.graph.node.append(helper.make_node("Sigmoid", ["elsewhere"], ["cam_activations"], name="changed"))
    with pytest.raises(LayerError, match=r"does not show a value on the way to score 'logits'.*12 channels of 8x8"):
        cut_tail(model, spec)


def test_the_model_is_left_as_it_was() -> None:
    model, spec = exported(onnx_classifiers.tokens(), "stream")
    set_spec(model, spec)
    before = model.SerializeToString(deterministic=True)
    cut_tail(model, spec, gradients=True)
    assert model.SerializeToString(deterministic=True) == before
    assert CamSpec.from_json(next(e.value for e in model.metadata_props if e.key == METADATA_KEY)) == spec
    assert model.graph.input[-1].type.tensor_type.elem_type == TensorProto.INT64
