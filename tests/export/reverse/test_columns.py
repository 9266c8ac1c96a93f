"""Several classes of each image in one inference, against an inference for each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime as ort
import pytest
from cfcam.export import ExportError, export_onnx
from cfcam.export.reverse import columns, differentiate
from cfcam.export.sources.preprocessing import preset
from cfcam.runtime.contract.columns_spec import ColumnsSpec
from onnx import ModelProto
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

STRETCH = preset("tf").override(mode="stretch")


def run(model: ModelProto | Path, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    source = model.SerializeToString() if isinstance(model, ModelProto) else str(model)
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, feeds)), strict=True))


@pytest.mark.parametrize(
    ("name", "which"),
    [*((name, "default") for name in onnx_classifiers.NETS), ("plain", "middle"), ("tokens", "middle")],
)
def test_every_form_is_proved_and_columns_are_the_single_classes(name: str, which: str, tmp_path: Path) -> None:
    onnx.save(onnx_classifiers.make(name), tmp_path / "net.onnx")
    layer = None if which == "default" else onnx_classifiers.NETS[name][1]
    how = {"layer": layer, "preprocessing": STRETCH}
    plain = export_onnx(tmp_path / "net.onnx", tmp_path / "plain.cam.onnx", **how)
    if next(iter(onnx.load(plain.path).graph.input)).type.tensor_type.shape.dim[0].HasField("dim_value"):
        with pytest.raises(ExportError, match="give their number, --classes-per-image K"):
            export_onnx(tmp_path / "net.onnx", tmp_path / "many.cam.onnx", classes_per_image="free", **how)
        how["classes_per_image"], count = 2, 1
    else:
        how["classes_per_image"], count = "free", 3
    report = export_onnx(tmp_path / "net.onnx", tmp_path / "many.cam.onnx", **how)
    spec = report.spec
    assert report.proof, report.proof.rows()
    assert spec.columns == ColumnsSpec(count=None if count > 1 else 2, ranks=spec.output.classes)
    images = np.random.default_rng(0).standard_normal(spec.input.shape(count)).astype(spec.input.dtype)
    targets = np.array([[0, 1], [1, 0], [1, 1]])[:count] % spec.output.classes
    many = run(tmp_path / "many.cam.onnx", **{spec.input.name: images, "cam_target": targets})
    assert many["cam_gradients"].shape == (count, 2, spec.layer.channels, *spec.layer.grid)
    np.testing.assert_array_equal(many["cam_class"], targets)
    for column in (0, 1):
        one = run(tmp_path / "plain.cam.onnx", **{spec.input.name: images, "cam_target": targets[:, column]})
        largest = np.abs(one["cam_gradients"]).max() or 1
        tolerance = 2e-3 if name == "half" else 1e-6
        np.testing.assert_allclose(
            many["cam_gradients"][:, column], one["cam_gradients"], rtol=0, atol=tolerance * largest
        )
        np.testing.assert_array_equal(many["cam_activations"], one["cam_activations"])
        if spec.layer.rivals is not None:
            np.testing.assert_allclose(many["cam_rivals"][:, column], one["cam_rivals"], rtol=0, atol=tolerance)


def test_a_fixed_number_and_the_classes_by_rank(tmp_path: Path) -> None:
    onnx.save(onnx_classifiers.make("softmax"), tmp_path / "net.onnx")
    report = export_onnx(tmp_path / "net.onnx", tmp_path / "many.cam.onnx", classes_per_image=2, preprocessing=STRETCH)
    spec = report.spec
    images = np.random.default_rng(1).standard_normal(spec.input.shape(4)).astype(spec.input.dtype)
    found = run(Path(report.path), **{spec.input.name: images, "cam_target": np.array([[-1, -2]] * 4)})
    order = np.argsort(-found[spec.output.name], axis=1)
    np.testing.assert_array_equal(found["cam_class"], order[:, :2])
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        run(Path(report.path), **{spec.input.name: images, "cam_target": np.zeros((4, 3), np.int64)})


def test_more_classes_than_the_model_has_are_refused() -> None:
    with pytest.raises(ExportError, match="99999 classes per image"):
        differentiate(onnx_classifiers.make("softmax"), classes=99999)


@pytest.mark.parametrize("name", ["softmax", "plain"])
def test_a_class_or_rank_that_is_not_there_never_gives_another_ones_gradient(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "MOST_RANKS", 1)
    onnx.save(onnx_classifiers.make(name), tmp_path / "net.onnx")
    report = export_onnx(tmp_path / "net.onnx", tmp_path / "many.cam.onnx", classes_per_image=2, preprocessing=STRETCH)
    image = np.random.default_rng(1).standard_normal(report.spec.input.shape(1)).astype(np.float32)
    for wrong in (-2, report.spec.output.classes, -99):
        try:
            found = run(Path(report.path), **{report.spec.input.name: image, "cam_target": np.array([[0, wrong]])})
        except InvalidArgument:  # by ONNX Runtime, of an index that is out of bounds
            continue
        assert not found["cam_gradients"][:, 1].any()
        assert found["cam_class"][0, 1] not in range(report.spec.output.classes)
