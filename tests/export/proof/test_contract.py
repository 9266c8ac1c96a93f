"""A file that says something else about itself than its graph does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_classifiers
import pytest
from cfcam.calibration.check import check_file
from cfcam.export.proof.contract import contradictions
from cfcam.export.proof.exported_file import open_exported_file
from cfcam.export.tail.cutting import open_exported
from cfcam.export.writing import set_spec
from cfcam.runtime import Explainer
from cfcam.runtime.contract.spec import CamSpec
from cfcam.runtime.errors import ModelFileError, SpecError
from onnx_classifiers import exported


def of_input(**changes: object) -> Callable[[CamSpec], CamSpec]:
    return lambda spec: dataclasses.replace(spec, input=dataclasses.replace(spec.input, **changes))


def of_output(**changes: object) -> Callable[[CamSpec], CamSpec]:
    return lambda spec: dataclasses.replace(spec, output=dataclasses.replace(spec.output, **changes))


def of_layer(**changes: object) -> Callable[[CamSpec], CamSpec]:
    return lambda spec: dataclasses.replace(spec, layers=(dataclasses.replace(spec.layer, **changes),))


CHANGES = {
    "right": (lambda spec: spec, None),
    "channels": (of_input(color="gray", mean=(0.0,), std=(1.0,)), "is float32 (N, 1, 32, 32), in the graph it is"),
    "size": (of_input(width=40), "is float32 (N, 3, 32, 40), in the graph it is float32 (N, 3, 32, 32)"),
    "type": (of_input(dtype="float16"), "is float16 (N, 3, 32, 32), in the graph it is float32"),
    "order": (of_input(layout="NHWC"), "is float32 (N, 32, 32, 3), in the graph it is float32 (N, 3, 32, 32)"),
    "input": (of_input(name="photo"), "it names the input 'photo', the graph has image, cam_target"),
    "classes": (of_output(classes=9), "it has 9 classes, output 'logits' has 7 of them"),
    "output": (of_output(name="scores"), "it names the output 'scores'"),
    "grid": (of_layer(grid=(4, 8)), "'cam_activations' is (N, 12, 4, 8), in the graph it is (N, 12, 8, 8)"),
    "depth": (of_layer(channels=16), "'cam_activations' is (N, 16, 8, 8), in the graph it is (N, 12, 8, 8)"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_contradiction_is_named_everywhere(name: str, tmp_path: Path) -> None:
    change, words = CHANGES[name]
    model, spec = exported(onnx_classifiers.plain(), "middle")
    set_spec(model, change(spec))
    onnx.save(model, tmp_path / "x.cam.onnx")
    found = contradictions(open_exported(model), change(spec))
    if name in ("input", "output"):  # which is seen as soon as the metadata are read
        assert words is not None
        assert words in found[0]
        for opened in (check_file, Explainer):
            with pytest.raises(ModelFileError, match="another tool has changed the file"):
                opened(tmp_path / "x.cam.onnx")
        return
    report = check_file(tmp_path / "x.cam.onnx")
    row = next(row for row in report.rows if row.name == "input, scores and layers are as the file says")
    if words is None:
        assert found == []
        assert row.status == "ok"
        Explainer(tmp_path / "x.cam.onnx").close()
        return
    assert words in found[0]
    assert row.status == "failed"
    assert words in row.note
    with pytest.raises(SpecError, match="contradicts its graph"):
        open_exported_file(tmp_path / "x.cam.onnx")
    if name not in ("classes", "grid", "depth"):  # of which a session knows nothing
        with pytest.raises(SpecError, match="the metadata belong to another graph"):
            Explainer(tmp_path / "x.cam.onnx")
