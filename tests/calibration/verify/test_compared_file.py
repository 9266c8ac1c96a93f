"""Two files and one rule: what belongs together, and what does not."""

from __future__ import annotations

import dataclasses

import pytest
import spoilt_files
import tiny_model
from cfcam.calibration.verify import Thresholds, VerifyError, verify
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import MethodError


def test_other_methods_are_judged_by_the_same_gate(mobilenet, photos):
    report = verify(mobilenet, mobilenet, photos[:2], method="hirescam", pictures=0)
    assert (report.method, report.places[0].clusters) == ("hirescam", 1.0)
    blind = verify(mobilenet, mobilenet, photos[:2], method="eigencam", pictures=0)
    assert blind
    assert blind.places[0].typical_scale, "the method does not look at the class"
    with pytest.raises(MethodError, match="'scorecam' runs the model again and again"):
        verify(mobilenet, mobilenet, photos[:2], method="scorecam")


def test_files_that_do_not_belong_together(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    spec = read_spec(plain)
    larger = tmp_path / "larger.cam.onnx"
    tiny_model.build(dataclasses.replace(tiny_model.VARIANTS["logits"], width=32), larger)
    other_layer = dataclasses.replace(spec.layer, name="conv7")
    pairs = [
        (tiny_path("binary"), "classes: 1 and 6"),
        (larger, "input size .*: 32 x 32 and 32 x 48"),
        (spoilt_files.with_spec(plain, tmp_path / "l.cam.onnx", layers=(other_layer,)), "target layers: conv7 .* relu"),
        (
            spoilt_files.with_spec(
                plain,
                tmp_path / "n.cam.onnx",
                output=dataclasses.replace(spec.output, labels=("blue", *tiny_model.LABELS[1:])),
            ),
            "label of class 0: blue and red",
        ),
        (
            spoilt_files.with_spec(
                plain, tmp_path / "m.cam.onnx", method=dataclasses.replace(spec.method, name="gradcam")
            ),
            "method: gradcam and cfcam",
        ),
    ]
    for candidate, words in pairs:
        with pytest.raises(
            VerifyError, match=f"{candidate.name} and .*logits.cam.onnx do not belong together: {words}"
        ):
            verify(candidate, plain, photos[:1])
    half = spoilt_files.with_spec(plain, tmp_path / "h.cam.onnx", precision="float16")
    with pytest.raises(VerifyError, match="is float16 itself: verify against the float32 file"):
        verify(plain, half, photos[:1])
    found = verify(half, plain, photos[:1], {"top1": 0.5}, pictures=0)
    assert found.thresholds == Thresholds.from_mapping({"top1": 0.5}, "float16")
