"""Biases make up for rounded weights."""

from __future__ import annotations

import numpy as np
import onnx
from cfcam.export.precision.bias import channel_means, correct_biases
from cfcam.export.precision.calibration_images import CalibrationImages
from cfcam.export.precision.plain_model import PlainModel
from cfcam.export.proof.session import Session
from lowered_nets import IMAGES


def test_bias_correction(quantised: tuple[PlainModel, CalibrationImages, onnx.ModelProto]) -> None:
    """The mean of every channel behind a rounded weight comes closer to the float network's, on the whole."""
    plain, images, model = quantised
    means = channel_means(plain.model, images)
    np.testing.assert_allclose(means["image"], IMAGES.mean((0, 2, 3)), rtol=1e-5)
    after = correct_biases(model, plain.model, means)
    names = [node.output[0] for node in plain.model.graph.node if node.op_type == "Conv"][1:]
    errors = {}
    for tag, one in (("float", plain.model), ("before", model), ("after", after)):
        probed = onnx.ModelProto()
        probed.CopyFrom(one)
        probed.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
        found = Session(probed, optimise=False).run({"image": IMAGES})
        errors[tag] = np.concatenate([np.asarray(found[name], float).mean((0, 2, 3)) for name in names])
    before, corrected = (np.abs(errors[tag] - errors["float"]).mean() for tag in ("before", "after"))
    assert 0 < corrected < 0.7 * before
