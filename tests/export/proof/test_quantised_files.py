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
