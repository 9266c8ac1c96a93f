"""What ONNX Runtime's own quantiser writes: proved by limits that its scales make, and wrong where it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.export import export_onnx
from cfcam.export.proof.checks import prove_file
from cfcam.export.proof.exported_file import open_exported_file, plain_outputs
from cfcam.export.sources.preprocessing import preset
from cfcam.runtime import Explainer
from onnx import numpy_helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

NETS = {"plain": onnx_classifiers.plain, "keras": onnx_classifiers.keras}


class Photos(CalibrationDataReader):
    """More than what is explained, so that nothing lies outside the ranges, where a quantiser has no gradient."""

    def __init__(self, channels_last: bool) -> None:
        self._images = iter(1.2 * images(channels_last)[:, None])

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        image = next(self._images, None)
        return None if image is None else {"image": image}


def images(channels_last: bool) -> np.ndarray:
    found = np.random.default_rng(1).uniform(-1, 1, (8, 3, 32, 32)).astype(np.float32)
    return np.ascontiguousarray(found.transpose(0, 2, 3, 1)) if channels_last else found


def quantised(folder: Path, name: str, *, per_channel: bool, kind: QuantType) -> tuple[Path, Path]:
    """(float32 model, its quantised form)."""
    paths = folder / "float.onnx", folder / "quantised.onnx"
    onnx.save(NETS[name](), paths[0])
    quantize_static(
        paths[0],
        paths[1],
        Photos(name == "keras"),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=kind,
        weight_type=QuantType.QInt8,
    )
    return paths


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8], ids=["uint8", "int8"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_it_is_proved_and_explains_as_the_float32_model(
    name: str, per_channel: bool, kind: QuantType, tmp_path: Path
) -> None:
    maps, names = [], set()
    for path in quantised(tmp_path, name, per_channel=per_channel, kind=kind):
        report = export_onnx(path, path.with_suffix(".cam.onnx"), preprocessing=preset("tf"))
        names |= {check.name for check in report.proof.checks}
        with Explainer(report.path) as explainer:
            tensors = explainer.tensors(images(name == "keras"), [2] * 8)
        maps.append((tensors.gradients.mean(axis=(2, 3), keepdims=True) * tensors.activations).sum(axis=1))
    for exact, coarse in zip(*maps, strict=True):
        assert np.corrcoef(exact.ravel(), coarse.ravel())[0, 1] > 0.99
    assert any(name.endswith("against the plain model, node by node (median image)") for name in names)


def test_a_weight_that_is_a_step_off_is_found_whatever_the_kernels_do(tmp_path: Path) -> None:
    _, path = quantised(tmp_path, "plain", per_channel=True, kind=QuantType.QUInt8)
    report = export_onnx(path, tmp_path / "x.cam.onnx", preprocessing=preset("tf"), layer="last")
    model = onnx.load(report.path)
    weight = next(
        t for t in model.graph.initializer if t.dims == [12, 8, 3, 3] and t.data_type == onnx.TensorProto.INT8
    )
    values = numpy_helper.to_array(weight).astype(int)
    weight.CopyFrom(numpy_helper.from_array(np.clip(values + 1, -127, 127).astype(np.int8), weight.name))
    onnx.save(model, report.path)
    file = open_exported_file(report.path)
    failed = {check.name for check in prove_file(file, plain_outputs(path, file)).failures}
    assert "output 'logits' against the plain model, node by node (median image)" in failed


def test_scores_that_a_quantiser_cuts_off_have_no_gradient_that_could_move(tmp_path: Path) -> None:
    """Most scores lie beyond their range: a zero gradient there is right, and no failure."""

    def classifier(step: float) -> onnx.ModelProto:
        b = onnx_classifiers.Builder()
        pooled = b("Flatten", b("GlobalAveragePool", b("Relu", b.conv("image", 3, 6, stride=4), out="last")))
        raw = b("Gemm", pooled, b.weight(6, 2), b.constant(np.array([9, -99], np.float32)))
        steps = b.constant(np.float32(step)), b.constant(np.int8(0))
        # A factor behind the quantiser, without which it would be stepped over.
        b(
            "Mul",
            b("DequantizeLinear", b("QuantizeLinear", raw, *steps), *steps),
            b.constant(np.float32(1)),
            out="logits",
        )
        return b.model({"logits": ["N", 2]}, ["N", 3, 32, 32])

    scores = InferenceSession(classifier(0.09).SerializeToString()).run(None, {"image": images(False)})[0]
    fine = np.asarray(scores)[:, 0]
    onnx.save(classifier(np.quantile(fine, 0.3) / 127), tmp_path / "x.onnx")
    report = export_onnx(tmp_path / "x.onnx", tmp_path / "x.cam.onnx", preprocessing=preset("tf"), images=images(False))
    with Explainer(report.path) as explainer:
        gradients = explainer.tensors(images(False)).gradients
    assert 0 < gradients.any(axis=(1, 2, 3)).sum() < 4
