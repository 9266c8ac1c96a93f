"""``cfcam inspect``."""

import hashlib
import json
from dataclasses import replace

import pytest
import tiny_model
from cfcam.cli import main
from cfcam.runtime.contract.manifest import (
    BackendRecord,
    CalibrationRecord,
    FileRecord,
    Manifest,
    ProductRecord,
    Target,
)
from cfcam.runtime.contract.spec import CamSpec
from PIL import Image


def test_json_is_the_spec_and_the_file(tiny_path, capsys):
    path = tiny_path("logits")
    assert main(["inspect", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    spec = tiny_model.VARIANTS["logits"].spec
    assert {key: document[key] for key in spec.to_dict()} == spec.to_dict()
    assert document["layer"]["name"] == "relu"
    assert (document["opset"], document["ir_version"]) == (18, 9)
    data = path.read_bytes()
    assert document["file"]["bytes"] == len(data)
    assert document["file"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert [value["name"] for value in document["file"]["inputs"]] == ["image", "cam_target"]
    assert document["file"]["outputs"][0] == {"name": "scores", "dtype": "float32", "shape": ["N", 6]}


def test_the_json_reads_back_as_a_spec(tiny_path, capsys):
    main(["inspect", str(tiny_path("nhwc")), "--json"])
    document = json.loads(capsys.readouterr().out)
    for key in ("opset", "ir_version", "file"):
        del document[key]
    assert CamSpec.from_dict(document) == tiny_model.VARIANTS["nhwc"].spec


def test_for_people(tiny_path, capsys):
    assert main(["inspect", str(tiny_path("softmax-and-logits"))]) == 0
    out = capsys.readouterr().out
    assert "ONNX opset 18, IR 9" in out
    assert "probabilities, softmax, 6 classes, differentiated: scores" in out
    assert "relu: 8 channels, 8x12, before the last pooling" in out
    assert "shorter side 56, bilinear, center crop" in out


def test_plain_onnx_file_is_refused(tiny_path, capsys):
    assert main(["inspect", str(tiny_path("plain"))]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "cfcam export" in err
    assert len(err.splitlines()) == 1


def _product(tiny_path, tmp_path, backend):
    path = tmp_path / "tiny.engine"
    path.write_bytes(tiny_path("logits").read_bytes() if backend == "onnxruntime" else b"ftrt, a plan")
    manifest = Manifest(
        product=ProductRecord.of(path),
        source=FileRecord(file="tiny.cam.onnx", sha256="1" * 64),
        backend=BackendRecord(name=backend, version="9.9", provider="cpu" if backend == "onnxruntime" else None),
        target=None if backend == "onnxruntime" else Target(compute_capability="8.7", gpu="Orin"),
        precision="int8",
        spec=tiny_model.VARIANTS["logits"].spec.to_dict(),
        calibration=CalibrationRecord(sha256="2" * 64, count=100, calibrator="entropy"),
        gate={"passed": backend == "onnxruntime"},
        created="2026-11-24T12:00:00Z",
    )
    manifest.write(path)
    return path, manifest


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_a_product_and_its_manifest(tiny_path, tmp_path, capsys, backend):
    """An engine is shown where its TensorRT and its GPU are not; a changed one nowhere."""
    path, manifest = _product(tiny_path, tmp_path, backend)
    assert main(["inspect", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["manifest"] == manifest.to_dict()
    assert document["file"]["sha256"] == manifest.product.sha256
    assert document["layer"]["name"] == "relu"
    assert ("opset" in document) == (backend == "onnxruntime")
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{backend} 9.9" in out
    assert "entropy, 100 images" in out
    assert ("passed" if backend == "onnxruntime" else "FAILED: its explanations are too far") in out
    assert ("Orin, compute capability 8.7" in out) == (backend == "tensorrt")
    path.write_bytes(b"ftrt, changed")
    assert main(["inspect", str(path)]) == 2
    assert "is not the file that tiny.engine.manifest.json describes" in capsys.readouterr().err


def test_explain_runs_a_product_and_says_that_it_failed(tiny_path, tmp_path, capsys):
    path, manifest = _product(tiny_path, tmp_path, "onnxruntime")
    replace(manifest, gate={"passed": False}).write(path)
    photo = tmp_path / "red.png"
    Image.new("RGB", (60, 60), (200, 20, 20)).save(photo)
    assert main(["explain", str(path), str(photo), "--json", "--method", "gradcam"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"]["gate_passed"] is False
    assert "the gate found its explanations too far from the reference" in err
    path.unlink()
    assert main(["explain", str(path), str(photo)]) == 2
    assert "is missing beside its manifest" in capsys.readouterr().err
