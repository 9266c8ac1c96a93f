"""Real photos, and a real network with two target layers."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_data import shared_path


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    return sorted(shared_path("data/photos").glob("*.jpg"))


@pytest.fixture(scope="session")
def mobilenet(tmp_path_factory) -> Path:
    """MobileNetV1 0.5 with its last layer and a middle one."""
    from cfcam.export import export_onnx, preset

    path = tmp_path_factory.mktemp("mobilenet") / "two.cam.onnx"
    source = shared_path("models/mobilenet_v1_0.5_160.onnx")
    export_onnx(source, path, layer=["t83", "t75"], preprocessing=preset("tf"))
    return path
