"""``cfcam layers``."""

import json
import subprocess
import sys

import pytest
from cfcam.cli import main


def test_table_of_an_exported_file(tiny_path, capsys):
    assert main(["layers", str(tiny_path("softmax"))]) == 0
    out, err = capsys.readouterr()
    header, row, default, score = out.splitlines()
    assert header.split() == ["layer", "shape", "grid", "operator", "depth", "also", "called"]
    assert row.startswith("*  relu")
    assert "(N, 8, 8, 12) NCHW" in row
    assert "8x12" in row
    assert default.startswith("* the default: enters the last global pooling (GlobalAveragePool '")
    assert score == "score: 'scores', 6 classes, shown as 'probabilities'"
    assert "explains layer 'relu' already" in err


def test_json(tiny_path, capsys):
    path = str(tiny_path("plain"))
    assert main(["layers", path, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["schema"] == "cfcam.layers/1"
    assert document["model"] == {"kind": "onnx", "name": path, "exported": None}
    assert document["default"] == "cam_activations"
    (layer,) = document["layers"]
    assert layer["grid"] == [8, 12]
    assert layer["default"]
    assert (document["score"], document["output"], document["classes"]) == ("scores", "scores", 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either an ONNX file or --model"),
        (["{tiny}", "--model", "a:b"], "either an ONNX file or --model"),
        (["{tiny}", "--score", "logit"], "no value 'logit'"),
        (["none.onnx"], "no such file"),
        (["--model", "no_such_package_of_models:x"], "no module"),
        (["--model", "collections:OrderedDict", "--kwargs", "x"], "not valid JSON"),
    ],
)
def test_one_line_for_what_cannot_be_done(tiny_path, capsys, arguments, words):
    assert main(["layers", *(a.replace("{tiny}", str(tiny_path("logits"))) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_text_file_is_not_a_model(tmp_path, capsys):
    (tmp_path / "x.onnx").write_text("no model\n" * 40)
    assert main(["layers", str(tmp_path / "x.onnx")]) == 2
    assert "not an ONNX model" in capsys.readouterr().err


def test_a_pytorch_model(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    (tmp_path / "my_layers_model.py").write_text(
        "from torch import nn\n"
        "def make(classes=3):\n"
        "    print('chatter')\n"
        "    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),"
        " nn.Linear(6, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "my_layers_model:make", "--kwargs", '{"classes": 4}', "--input-size", "20x30"]
    assert main(["layers", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "chatter" in err
    document = json.loads(out)
    assert document["model"]["name"] == "my_layers_model:make"
    assert document["classes"] == 4
    assert [(layer["name"], layer["grid"]) for layer in document["layers"]] == [("1", [18, 28])]
    sys.modules.pop("my_layers_model", None)


def test_missing_onnx_names_the_extra(tiny_path):
    code = """
import sys
sys.modules["onnx"] = None
from cfcam.cli import main
sys.exit(main(["layers", sys.argv[1]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_path("logits"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "cfcam[onnx]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
