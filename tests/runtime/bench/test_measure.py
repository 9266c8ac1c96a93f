from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from cfcam.runtime.bench.document import SCHEMA, document, warnings_of
from cfcam.runtime.bench.measure import MEASURES, Measurement, check_plain, measure
from cfcam.runtime.bench.summary import Ratio, Summary
from cfcam.runtime.bench.timed_file import STAGES, TimedFile
from cfcam.runtime.contract import manifest
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import file_sha256, read_spec
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.errors import ImageError, ModelFileError, TargetError


@pytest.fixture
def timed(tiny_path, photo):
    with TimedFile(tiny_path("logits"), photo, threads=1) as timed:
        timed.warm_up(2)
        yield timed


def test_every_stage_of_a_real_file(timed):
    found = measure(timed, rounds=6)
    assert set(found.latency) == set(MEASURES)
    assert set(found.stages) == {*STAGES, "other"}
    assert {summary.n for summary in (*found.latency.values(), *found.stages.values())} == {6}
    assert all(summary.min > 0 for name, summary in found.stages.items() if name != "other")
    # The stages and what is beside them are the whole, run by run, so their means add up.
    parts = sum(summary.mean for summary in found.stages.values())
    assert parts == pytest.approx(found.latency["explanation"].mean, rel=1e-6)
    assert found.images_per_second("map") == pytest.approx(1000 / found.latency["map"].mean)
    assert (found.plain, found.ratio, found.control) == (None, None, None)


def test_the_document_is_complete_json(timed):
    found = measure(timed, rounds=3)
    result = document(timed, found, image_name="half_red.png", budget=found.budget(1e-9))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["schema"] == SCHEMA
    assert result["rounds"] == 3
    assert result["warm_up_rounds"] == 2
    assert result["engine"]["threads"] == 1
    assert result["what"] | {"settings": None} == {
        "method": "cfcam", "settings": None, "layers": ["relu"], "fusion": None, "batch": 1, "target": None
    }  # fmt: skip
    assert result["image"] == {"name": "half_red.png", "width": 80, "height": 60}
    assert result["model"]["input"]["shape"] == [1, 3, 32, 48]
    assert result["transfers"].startswith("none")
    assert result["open_ms"] > 0
    assert result["first_ms"] > 0
    assert result["memory"]["high_water"] >= result["memory"]["before_open"]
    assert result["budget"]["met"] is False
    assert any("p99 of 3 runs" in text for text in result["warnings"])


@pytest.mark.parametrize("variant", ["fixed-batch", "nhwc", "float16", "binary"])
def test_other_files_and_batches(tiny_path, photo, variant):
    with TimedFile(tiny_path(variant), photo, batch=3, threads=1, method="gradcam") as timed:
        timed.warm_up(1)
        found = measure(timed, rounds=2)
    assert found.batch == 3
    assert found.images_per_second("inference") == pytest.approx(3000 / found.latency["inference"].mean)


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


def test_the_plain_model_must_have_the_same_input(tiny_path):
    with pytest.raises(ModelFileError, match=r"'image' float32 .* alone, found .*cam_target"):
        check_plain(tiny_path("logits"), read_spec(tiny_path("logits")).input)


def _measurement(times, *, load=0.0, control=1.0):
    summary = Summary.of(times)
    ratio = Ratio(control, control, control, summary.n)
    return Measurement(dict.fromkeys(MEASURES, summary), {}, 1, summary, ratio, ratio, 1.0, load, load)


def test_budget_both_ways():
    found = _measurement(range(1, 101))
    assert found.budget(99.02).met
    assert not found.budget(99.0).met
    assert found.budget(99.0, "inference").to_dict() == {
        "of": "inference", "ms": 99.0, "p99": pytest.approx(99.01), "met": False
    }  # fmt: skip


def test_warnings_say_what_times_are_worth():
    quiet = [10.0] * 200
    assert warnings_of(_measurement(quiet), 2) == []
    (few,) = warnings_of(_measurement(quiet[:99]), 2)
    assert "99 runs" in few
    (busy,) = warnings_of(_measurement(quiet, load=1.5), 2)
    assert "load 1.5 on 2 cores" in busy
    assert warnings_of(_measurement(quiet, load=1.5), 16) == []
    wide = warnings_of(_measurement([10.0] * 150 + [14.0] * 50), 2)
    assert [text.split(":")[0] for text in wide] == list(MEASURES)
    (rough,) = warnings_of(_measurement(quiet, control=1.05), 2)
    assert "plain / plain is 1.050" in rough
    assert warnings_of(dataclasses.replace(_measurement(quiet), control=None), 2) == []
