"""Ranges are learnt once, whatever becomes of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from cfcam.calibration.build.config_files import parse_config
from cfcam.calibration.build.pipeline import build
from cfcam.export import precision
from cfcam.runtime.contract.manifest import Manifest
from small_photos import make_photos


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFCAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_photos(tmp_path_factory.mktemp("photos"), 24)


def test_int8_is_calibrated_once(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(
        "backend: onnxruntime\nprecision: int8\nquantisation: {float_first: false}\n"
        "calibration: {images: 12}\ngate: {images: 12, thresholds: {last_score: 0.5, last_iou_score: null}}",
        "f.yaml",
    )
    real, seen = precision.lower, []

    def lower(source: Path, output: Path, plan: Any, images: Any, *, ranges: Path, **options: Any) -> Any:
        seen.append(ranges.is_file())
        return real(source, output, plan, images, ranges=ranges, **options)

    monkeypatch.setattr("cfcam.calibration.build.lowering.lower", lower)
    reports = [build(tiny_path("logits"), "i8", config, tmp_path / "out", photos, allow_failing=True) for _ in "12"]
    assert seen == [False, True]  # the second build finds the ranges of the first
    assert not any("kept" in note for note in reports[1].notes)
    (kept,) = (tmp_path / "cache" / "ranges").iterdir()
    kept.write_text("{")  # damaged
    (tmp_path / "file").touch()
    for cache in ("cache", "file"):  # where a file has the folder's name nothing can be kept
        monkeypatch.setenv("CFCAM_CACHE", str(tmp_path / cache))
        reports.append(build(tiny_path("logits"), "i8", config, tmp_path / "out", photos, allow_failing=True))
    assert seen[2:] == [False, False]
    (unkept,) = (note for note in reports[3].notes if "kept" in note)
    assert re.match(r"nothing is kept for the next build: .*file.* cannot be written", unkept)
    (product,) = reports[1].products
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(product).graph.node)
    manifest = Manifest.read(product)
    assert manifest is not None
    assert manifest.precision == "int8"
    assert manifest.calibration is not None
    assert manifest.calibration.count == 12
    assert reports[0].photos is not None
    assert reports[0].photos.apart
