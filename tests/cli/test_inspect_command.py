"""``cfcam inspect``."""

import hashlib
import json

import tiny_model
from cfcam.cli import main
from cfcam.runtime.spec import CamSpec


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
