"""A small explained file, and its network in INT8."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from cfcam.export.precision.calibration_images import CalibrationImages
from cfcam.export.precision.plain_model import PlainModel, plain_model
from cfcam.export.precision.quantise import quantise
from cfcam.runtime.contract.modelfile import read_spec
from lowered_nets import IMAGES, INT8, write


@pytest.fixture
def cam(tmp_path: Path) -> Path:
    return write("mobile", tmp_path / "net.cam.onnx")


@pytest.fixture
def quantised(cam: Path, tmp_path: Path) -> tuple[PlainModel, CalibrationImages, onnx.ModelProto]:
    plain = plain_model(onnx.load(cam), read_spec(cam))
    images = CalibrationImages([IMAGES], read_spec(cam).input, tmp_path / "images")
    return (
        plain,
        images,
        quantise(plain.model, INT8, images, tmp_path, score=read_spec(cam).output, pooled=plain.layers),
    )
