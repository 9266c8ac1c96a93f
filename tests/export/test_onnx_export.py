"""`export_onnx` from end to end: files of many forms, what the new file says, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime as ort
import pytest
from cfcam.export import ExportError, LayerError, Preprocessing, ProofError, UnsupportedOperatorError, export_onnx
from cfcam.export.reverse import LayerView
from cfcam.export.sources.preprocessing import preset
from cfcam.runtime import Explainer
from cfcam.runtime.contract.modelfile import file_sha256, read_spec
from cfcam.runtime.errors import ModelFileError, OutputError
from onnx import ModelProto, TensorProto, helper
from shared_data import shared_path

STRETCH = preset("tf").override(mode="stretch")


def saved(folder: Path, model: ModelProto, name: str = "net.onnx") -> Path:
    onnx.save(model, folder / name)
    return folder / name


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("which", ["default", "middle"])
@pytest.mark.parametrize("name", onnx_classifiers.NETS)
def test_every_form_is_exported_proved_and_explained(name: str, which: str, tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.make(name))
    target = tmp_path / "net.cam.onnx"
    layer = None if which == "default" else onnx_classifiers.NETS[name][1]
    report = export_onnx(path, target, layer=layer, preprocessing=STRETCH, with_tail=True)
    assert report.proof, report.proof.rows()
    spec = read_spec(target)
    assert spec == report.spec
    assert (spec.source.kind, spec.source.name, spec.source.sha256) == ("onnx", "net.onnx", file_sha256(path))
    assert spec.input.layout == ("NHWC" if name == "keras" else "NCHW")
    assert spec.input.dtype == ("float16" if name == "half" else "float32")
    assert spec.precision == {"half": "float16", "quantised": "int8"}.get(name, "float32")
    assert spec.output.kind == {
        "softmax": "softmax", "keras": "softmax", "multilabel": "sigmoid", "binary": "binary"
    }.get(name, "logits")  # fmt: skip
    assert spec.layer.prefix_tokens == (1 if name == "tokens" else 0)
    assert spec.layer.pooled == (which == "default" and name != "tokens")
    names = [entry.name for entry in onnx.load(path).graph.output]
    names += ["cam_scores"] if name == "binary" else []
    found = onnx.load(target)
    assert spec.layer.outputs[:2] == ("cam_activations", "cam_gradients")
    assert [entry.name for entry in found.graph.output] == [*names, *spec.layer.outputs, "cam_class"]
    onnx.checker.check_model(found, full_check=True)
    from PIL import Image

    photo = Image.effect_mandelbrot((60, 44), (-2, -1, 1, 1), 50).convert("RGB")
    with Explainer(target) as explainer:
        explanation = explainer.explain(photo, method="hirescam")
    assert explanation.map.shape == (32, 32)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.cam.onnx", "net.onnx", "net.tail.onnx"]


def test_a_layer_can_be_named_by_its_node(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.plain())
    by_node = export_onnx(path, tmp_path / "a.onnx", layer="n_middle")
    assert by_node.spec.layer.name == "middle"
    with pytest.raises(LayerError, match=r"no value or node 'midle'.*nearest: middle"):
        export_onnx(path, tmp_path / "b.onnx", layer="midle")


def test_the_view_of_a_layer_can_be_given(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.tokens())
    report = export_onnx(path, tmp_path / "a.onnx", view=LayerView(grid=(4, 4)))
    assert (report.spec.layer.grid, report.spec.layer.prefix_tokens) == ((4, 4), 1)
    with pytest.raises(ProofError, match=r"read as a grid of 4x4, .* export it with --grid 4x4"):
        export_onnx(path, tmp_path / "b.onnx", view=LayerView(grid=(2, 8)))
    with pytest.raises(LayerError, match="17 tokens"):
        export_onnx(path, tmp_path / "b.onnx", view=LayerView(grid=(3, 3), prefix_tokens=1))


def test_free_sizes_must_be_given(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.plain(size=["height", "width"]))
    with pytest.raises(ExportError, match=r"\(N, 3, height, width\): height and width are free.*--input-size"):
        export_onnx(path, tmp_path / "a.onnx")
    report = export_onnx(path, tmp_path / "a.onnx", input_size=(40, 56))
    assert (report.spec.input.height, report.spec.input.width, report.spec.layer.grid) == (40, 56, (10, 14))
    assert session(tmp_path / "a.onnx").get_inputs()[0].shape == ["N", 3, 40, 56]


def test_a_fixed_batch_stays_and_is_mentioned(tmp_path: Path) -> None:
    report = export_onnx(saved(tmp_path, onnx_classifiers.plain(batch=1)), tmp_path / "a.onnx")
    assert any("batch is fixed to 1" in warning for warning in report.warnings)
    assert session(tmp_path / "a.onnx").get_inputs()[0].shape == [1, 3, 32, 32]


def test_a_free_batch_without_a_name_gets_one(tmp_path: Path) -> None:
    report = export_onnx(saved(tmp_path, onnx_classifiers.plain(batch=None)), tmp_path / "a.onnx", layer="middle")
    assert report.proof
    assert session(tmp_path / "a.onnx").get_inputs()[0].shape[0] == "batch"


def test_an_old_opset_is_converted_and_said_so(tmp_path: Path) -> None:
    b = onnx_classifiers.Builder()
    onnx_classifiers._head(b, onnx_classifiers._features(b))
    path = saved(tmp_path, b.model({"logits": ["N", onnx_classifiers.CLASSES]}, ["N", 3, 32, 32], opset=9))
    report = export_onnx(path, tmp_path / "a.onnx")
    assert "converted from opset 9 to 18" in report.warnings


def test_the_score_can_be_another_output_or_an_inner_value(tmp_path: Path) -> None:
    b = onnx_classifiers.Builder()
    x = onnx_classifiers._features(b)
    onnx_classifiers._head(b, x, out="first")
    onnx_classifiers._head(b, x, out="second")
    b("Add", "first", "second", out="sum")
    path = saved(tmp_path, b.model({n: ["N", onnx_classifiers.CLASSES] for n in ("first", "sum")}, ["N", 3, 32, 32]))
    assert export_onnx(path, tmp_path / "a.onnx").spec.output.name == "first"
    assert export_onnx(path, tmp_path / "a.onnx", score="sum").spec.output.name == "sum"
    report = export_onnx(path, tmp_path / "a.onnx", score="second")
    assert report.spec.output.name == "second"
    assert any("'second' is not an output" in warning for warning in report.warnings)
    names = [o.name for o in session(tmp_path / "a.onnx").get_outputs()]
    assert names == ["first", "sum", "second", *report.spec.layer.outputs, "cam_class"]


def test_independent_classes(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.plain())
    assert export_onnx(path, tmp_path / "a.onnx", multi_label=True).spec.output.kind == "binary"
    with pytest.raises(ExportError, match="exclude each other"):
        export_onnx(saved(tmp_path, onnx_classifiers.softmax()), tmp_path / "b.onnx", multi_label=True)


def test_a_grey_model(tmp_path: Path) -> None:
    b = onnx_classifiers.Builder()
    onnx_classifiers._head(b, b("Relu", b.conv("image", 1, 16)))
    path = saved(tmp_path, b.model({"logits": ["N", onnx_classifiers.CLASSES]}, ["N", 1, 28, 28]))
    report = export_onnx(path, tmp_path / "a.onnx")
    assert (report.spec.input.mean, report.spec.input.scale) == ((0.0,), 1 / 255)
    assert any("1 channel, and no preset" in note and "x = p / 255 was assumed" in note for note in report.warnings)
    with pytest.raises(ExportError, match=r"takes 1 channel, .* give one number for mean and for std"):
        export_onnx(path, tmp_path / "a.onnx", preprocessing=preset("torchvision").override(scale=1 / 255))
    grey = Preprocessing(scale=1 / 255, mean=(0.13,) * 3, std=(0.3,) * 3, mode="stretch", crop="none")
    spec = export_onnx(path, tmp_path / "a.onnx", preprocessing=grey).spec
    assert (spec.input.color, spec.input.mean, spec.input.std) == ("gray", (0.13,), (0.3,))


def without_shape(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def truth_for_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BOOL


def no_batch(model: ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[0]


def nothing_high(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0


def five_channels(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5


def second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 5]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_shape, "its shape is not stated"),
        (truth_for_input, r"bool \(N, 3, 32, 32\): expected float32, float16, uint8, int8"),
        (no_batch, "expected four dimensions"),
        (nothing_high, "has a dimension of 0"),
        (five_channels, "does not run on"),
        (second_input, r"takes 2 inputs: 'mask' float32 \(N, 5\) beside the image 'image': .*--input mask=mask.npy"),
    ],
)
def test_inputs_that_are_no_image_batch(change: Callable[[ModelProto], None], words: str, tmp_path: Path) -> None:
    model = onnx_classifiers.plain()
    change(model)
    with pytest.raises(ExportError, match=words):
        export_onnx(saved(tmp_path, model), tmp_path / "a.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def detector() -> ModelProto:
    b = onnx_classifiers.Builder()
    boxes = b.conv(onnx_classifiers._features(b), 16, 6)
    b("Transpose", b("Reshape", boxes, b.constant(np.array([0, 6, -1]))), perm=[0, 2, 1], out="boxes")
    return b.model({"boxes": ["N", 64, 6]}, ["N", 3, 32, 32])


def test_a_detector_has_no_class_scores(tmp_path: Path) -> None:
    path = saved(tmp_path, detector())
    with pytest.raises(ExportError, match=r"\(N, classes\).*'boxes' \(N, 64, 6\).*--score"):
        export_onnx(path, tmp_path / "a.onnx")
    with pytest.raises(ExportError, match="the graph has no value 'klass'"):
        export_onnx(path, tmp_path / "a.onnx", score="klass")


def test_a_layer_that_does_not_reach_the_score(tmp_path: Path) -> None:
    b = onnx_classifiers.Builder()
    onnx_classifiers._head(b, onnx_classifiers._features(b))
    b("Sigmoid", "middle", out="side")
    outputs = {"logits": ["N", onnx_classifiers.CLASSES], "side": ["N", 12, 8, 8]}
    with pytest.raises(LayerError, match="layer 'side' does not reach the score 'logits'"):
        export_onnx(saved(tmp_path, b.model(outputs, ["N", 3, 32, 32])), tmp_path / "a.onnx", layer="side")


def test_integer_only_quantisation_asks_for_the_other_form(tmp_path: Path) -> None:
    b = onnx_classifiers.Builder()
    x = onnx_classifiers._features(b)
    one, zero = b.constant(np.float32(0.02)), b.constant(np.uint8(0))
    weight = b.constant(np.ones((16, 16, 1, 1), np.uint8))
    x = b("QLinearConv", b("QuantizeLinear", x, one, zero), one, zero, weight, one, zero, one, zero)
    onnx_classifiers._head(b, b("DequantizeLinear", x, one, zero))
    path = saved(tmp_path, b.model({"logits": ["N", onnx_classifiers.CLASSES]}, ["N", 3, 32, 32]))
    with pytest.raises(UnsupportedOperatorError, match=r"QLinearConv .*QDQ form"):
        export_onnx(path, tmp_path / "a.onnx", layer="last")


def test_files_that_are_not_models(tmp_path: Path) -> None:
    whole = onnx_classifiers.plain().SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("cut.onnx", "text.onnx", "empty.onnx", "none.onnx"):
        with pytest.raises(ModelFileError, match=name):
            export_onnx(tmp_path / name, tmp_path / "a.cam.onnx")
    assert not (tmp_path / "a.cam.onnx").exists()


def test_external_data_stays_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (tmp_path / "models").mkdir()
    model = onnx_classifiers.plain()
    onnx.save(
        model, tmp_path / "models" / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert export_onnx(tmp_path / "models" / "net.onnx", tmp_path / "out" / "a.onnx").proof
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.onnx"]  # small enough for one file
    loaded = onnx.load(tmp_path / "models" / "net.onnx", load_external_data=False)
    for tensor in loaded.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret.bin"
    (tmp_path / "models" / "evil.onnx").write_bytes(loaded.SerializeToString())
    with pytest.raises(ModelFileError, match=r"evil\.onnx"):
        export_onnx(tmp_path / "models" / "evil.onnx", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_a_file_that_is_exported_already(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.plain())
    export_onnx(path, tmp_path / "a.cam.onnx")
    with pytest.raises(ExportError, match=r"a\.cam\.onnx: is an exported file already"):
        export_onnx(tmp_path / "a.cam.onnx", tmp_path / "b.cam.onnx")


def test_the_model_itself_is_never_written_over(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.plain())
    before = path.read_bytes()
    (tmp_path / "link.onnx").symlink_to(path)
    for target in (path, tmp_path / "link.onnx", tmp_path / ".." / tmp_path.name / "net.onnx"):
        with pytest.raises(ExportError, match="is the model itself"):
            export_onnx(path, target)
    assert path.read_bytes() == before


def test_a_wrong_number_of_labels(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="3 labels for a model of 7 classes"):
        export_onnx(saved(tmp_path, onnx_classifiers.plain()), tmp_path / "a.onnx", labels=["a", "b", "c"])


def test_a_file_that_fails_its_proof_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cfcam.export import onnx_export

    true = onnx_export.differentiate

    def broken(*arguments: Any, **options: Any) -> Any:
        made = true(*arguments, **options)
        for node in made.graph.nodes:
            node.output[:] = ["right" if name == "cam_gradients" else name for name in node.output]
        made.graph.nodes.append(helper.make_node("Neg", ["right"], ["cam_gradients"], name="broken"))
        made.graph.reindex()
        return made

    monkeypatch.setattr(onnx_export, "differentiate", broken)
    path = saved(tmp_path, onnx_classifiers.plain())
    target = tmp_path / "a.cam.onnx"
    target.write_bytes(b"what was here before")
    with pytest.raises(ProofError, match=r"not written, .* failed its proof .*against differences"):
        export_onnx(path, target, with_tail=True)
    assert target.read_bytes() == b"what was here before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.cam.onnx", "net.onnx"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_classifiers.plain())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a folder"):
        export_onnx(path, tmp_path)
    with pytest.raises(OutputError, match=r"file/a\.onnx: cannot be written"):
        export_onnx(path, tmp_path / "file" / "a.onnx")


def test_a_model_that_does_not_run_is_told_from_a_wrong_export(tmp_path: Path) -> None:
    b = onnx_classifiers.Builder()
    onnx_classifiers._head(b, onnx_classifiers._features(b))
    beyond = b("Gather", "logits", b.constant(np.array([10_000])), axis=0)
    scores = b("Add", "logits", beyond, out="scores")
    path = saved(tmp_path, b.model({scores: ["N", onnx_classifiers.CLASSES]}, ["N", 3, 32, 32]))
    with pytest.raises(ExportError, match=r"net\.onnx: the model itself does not run on \d+ images"):
        export_onnx(path, tmp_path / "a.onnx")


def test_passes_are_announced_and_timed(tmp_path: Path) -> None:
    heard: list[str] = []
    report = export_onnx(saved(tmp_path, onnx_classifiers.plain()), tmp_path / "a.onnx", progress=heard.append)
    assert heard == ["load", "differentiate", "write", "prove"] == list(report.seconds)
    json.dumps(report.proof.to_dict())


def test_pytorch_is_not_needed(tmp_path: Path) -> None:
    """In a process in which importing torch fails, as it does where it is not installed."""
    saved(tmp_path, onnx_classifiers.plain())
    code = """
import sys
for name in ("torch", "torchvision", "onnxscript", "safetensors"):
    sys.modules[name] = None
from cfcam.export import export_onnx
report = export_onnx("net.onnx", "net.cam.onnx", layer="middle", with_tail=True)
assert report.proof
print(report.spec.layer.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "middle\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "layer", "name_of_it"),
    [("mobilenet_v2_1.0_224", 224, None, "t168"), ("mobilenet_v1_0.5_160", 160, "t65", "t65")],
    ids=["last", "middle"],
)
def test_pretrained_models_without_a_pytorch_source(
    name: str, size: int, layer: str | None, name_of_it: str, tmp_path: Path
) -> None:
    path = shared_path(f"models/{name}.onnx")
    report = export_onnx(path, tmp_path / "a.cam.onnx", layer=layer, preprocessing=preset("tf"))
    spec = report.spec
    assert (spec.layer.name, spec.layer.pooled, spec.output.classes) == (name_of_it, layer is None, 1001)
    assert (spec.input.height, spec.input.width) == (size, size)
    assert spec.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with Explainer(tmp_path / "a.cam.onnx") as explainer:
        explanation = explainer.explain(shared_path("data/photos/two_dogs.jpg"), target=196)
    assert {195, 196, 268, 172}.intersection(target for target, *_ in explanation.top)  # terriers and greyhounds
    assert not explanation.empty
