"""`TimedFile`: opened as a product says, closed where it cannot be used."""

from __future__ import annotations

import shutil

import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.bench.document import document
from cfcam.runtime.bench.measure import measure
from cfcam.runtime.bench.timed_file import STAGES, TimedFile
from cfcam.runtime.contract import manifest
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import file_sha256, read_spec
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.errors import CfcamError, ImageError, TargetError


def test_a_product_is_run_as_its_manifest_says(tiny_path, photo, tmp_path, monkeypatch):
    path = tmp_path / "product.onnx"
    shutil.copy(tiny_path("logits"), path)
    Manifest(
        product=ProductRecord.of(path),
        source=FileRecord.of(tiny_path("logits")),
        backend=BackendRecord(name="onnxruntime", version="1.30.0", provider="cpu"),
        precision="float16",
        engine=EngineOptions(threads=2).to_dict(),
        spec=read_spec(path).to_dict(),
        created="2026-11-24T00:00:00Z",
    ).write(path)
    hashed = []
    monkeypatch.setattr(manifest, "file_sha256", lambda path: hashed.append(path) or file_sha256(path))
    with TimedFile(path, photo) as timed:
        assert hashed == [path], "read once: it may be large"
        timed.warm_up(1)
        result = document(timed, measure(timed, rounds=1), image_name="half_red.png")
        assert timed.options.threads == result["engine"]["threads"] == 2
        assert result["model"]["precision"] == "float16"
    with TimedFile(path, photo, threads=1) as timed:
        assert timed.options.threads == 1


def test_what_cannot_be_measured_is_refused(tiny_path, photo, tmp_path):
    with pytest.raises(ImageError):
        TimedFile(tiny_path("logits"), tmp_path / "none.jpg")
    with pytest.raises(TargetError):
        TimedFile(tiny_path("logits"), photo, target="purple")


@pytest.mark.parametrize(
    "wrong", [{"image": "none.jpg"}, {"target": "purple"}, {"method": "no-cam"}, {"settings": {"sigma": -1}}]
)
def test_the_engine_is_closed_where_the_file_cannot_be_timed(tiny_path, photo, monkeypatch, wrong):
    closed = []
    monkeypatch.setattr(Explainer, "close", lambda opened: closed.append(opened.path))
    with pytest.raises(CfcamError):
        TimedFile(tiny_path("logits"), **{"image": photo, **wrong})
    assert closed == [tiny_path("logits")]


def test_warming_up_notes_the_first_explanation_and_the_memory(tiny_path, photo):
    with TimedFile(tiny_path("logits"), photo, batch=2, threads=1) as timed:
        assert timed.first_ms is None
        timed.warm_up(2)
        assert timed.first_ms is not None
        assert timed.first_ms > 0
        assert timed.warm_up_rounds == 2
        assert set(timed.memory) == {"before_open", "warm", "high_water"}
        assert timed.tensors.shape == (2, 3, 32, 48)
        assert timed.photo_size == (80, 60)
        assert set(timed.explain()) == set(STAGES)
