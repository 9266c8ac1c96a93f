"""Weights are rounded so that means stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from cfcam.export.graph import attribute, open_graph
from cfcam.export.precision import lower
from cfcam.export.precision.bias import channel_means, spread_means
from cfcam.export.precision.calibration_images import CalibrationImages
from cfcam.export.precision.plain_model import plain_model
from cfcam.export.precision.round import round_weights
from cfcam.runtime.contract.modelfile import read_spec
from lowered_nets import HALF, IMAGES


def test_rounding_keeps_the_means(cam: Path, tmp_path: Path) -> None:
    """float16's numbers, each the next one up or down, and no channel's mean moves as far as by the nearest ones."""
    plain = plain_model(onnx.load(cam), read_spec(cam))
    images = CalibrationImages([IMAGES], read_spec(cam).input, tmp_path / "images")
    means = channel_means(plain.model, images)
    before, after = (open_graph(model)[0] for model in (plain.model, round_weights(plain.model, means)))
    moved = {"nearest": 0.0, "chosen": 0.0}
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old.op_type != "Conv":
            continue
        weight, chosen, bias = (np.asarray(array) for array in (
            before.constant(old.input[1]), after.constant(new.input[1]), before.constant(old.input[2])
        ))  # fmt: skip
        assert (chosen == chosen.astype(np.float16)).all()
        assert (np.abs(chosen - weight) <= np.spacing(np.abs(weight).astype(np.float16))).all()
        mean = spread_means(means[old.input[0]], weight.shape, attribute(old, "group", 1)).reshape(weight.shape)
        for name, rounded in (("nearest", weight.astype(np.float16)), ("chosen", chosen)):
            error = ((rounded - weight.astype(float)) * mean).sum((1, 2, 3)) + bias.astype(np.float16) - bias
            moved[name] += float(np.abs(error).sum())
    assert 0 < moved["chosen"] < 0.5 * moved["nearest"]
    made = lower(cam, tmp_path / "low.onnx", HALF, [IMAGES])
    assert made.calibration is None
    assert "round weights" in made.seconds
    assert "round weights" not in lower(cam, tmp_path / "low.onnx", HALF, prove=False).seconds
