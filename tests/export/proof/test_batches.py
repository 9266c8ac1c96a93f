"""Files that answer for an image in its batch otherwise than alone, which a file can do by more than its gradient."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.export.proof.batches import batch_against_others
from cfcam.export.proof.exported_file import open_exported_file
from cfcam.export.writing import set_spec
from mutations import constant, rewired
from onnx_classifiers import exported


def written(path: Path, batch: int | str, how: str | None) -> Path:
    model, spec = exported(onnx_classifiers.plain(batch=batch), "middle")
    set_spec(model, dataclasses.replace(spec, input=dataclasses.replace(spec.input, scale=1 / 255)))
    constant(model, "hundredth", np.float32(0.01))
    constant(model, "first_axis", np.array([0]))
    mean = [("ReduceMean", ["it", "first_axis"], {"keepdims": 1}), ("Mul", ["it", "hundredth"], {})]
    if how == "early":  # what reads it reads the changed value: the network itself is another
        b = onnx_classifiers.Builder()
        b("Mul", b("ReduceMean", "true", "first_axis"), "hundredth", out="little")
        b("Add", "true", "little", out="early")
        at = next(i for i, node in enumerate(model.graph.node) if "early" in node.output)
        model.graph.node[at].output[0] = model.graph.node[at].name = "true"
        for node in reversed(b.nodes):
            model.graph.node.insert(at + 1, node)
    elif how is not None:
        rewired(model, how, *mean, ("Add", ["true", "step1"], {}))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", ["N", 2, 5])
@pytest.mark.parametrize("how", [None, "logits", "early", "cam_gradients"])
def test_a_hundredth_of_the_batchs_mean_is_found(how: str | None, batch: int | str, tmp_path: Path) -> None:
    checks = batch_against_others(open_exported_file(written(tmp_path / "x.cam.onnx", batch, how)))
    failed = {check.name.rpartition(", ")[2] for check in checks if not check.ok}
    expected = {"logits": "scores", "early": "activations", "cam_gradients": "share of the allowed error"}
    assert (expected[how] in failed) if how else not failed


def test_a_file_that_takes_no_single_image(tmp_path: Path) -> None:
    path = written(tmp_path / "x.cam.onnx", "N", None)
    model = onnx.load(path)
    constant(model, "five", np.arange(5))
    rewired(model, "cam_gradients", ("Gather", ["it", "five"], {"axis": 0}))
    onnx.save(model, path)
    checks = batch_against_others(open_exported_file(path))
    assert [check.value for check in checks] == [np.inf, np.inf]
    assert "does not take so many images" in checks[0].note
