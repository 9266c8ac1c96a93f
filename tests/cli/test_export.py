"""``cfcam export``: from options to the exported file."""

import json
import subprocess
import sys

import pytest
from cfcam.cli import main
from cfcam.cli.export import read_label_option

pytest.importorskip("torch")

MODULE = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        print("chatter of the model")
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 11, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(11, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def random_answers():
    model = Tiny()
    model.forward = lambda x: torch.randn(x.shape[0], 3)
    return model
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_tiny_model.py").write_text(MODULE)
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_tiny_model", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "my_tiny_model:Tinny"], "nearest: Tiny"),
        (["--model", "my_tiny_model"], "expected PKG.MODULE:FACTORY"),
        (["--mean", "1,2"], "mean has 2 numbers and std 3"),
        (["--scale", "one"], "--scale: expected a number"),
        (["--resize", "wide"], "resize: expected"),
        (["--resize", "20"], "too small"),
        (["--crop", "none"], "needs resize 'stretch' or 'pad'"),
        (["--input-size", "big"], "input size"),
        (["--kwargs", "classes=3"], "not valid JSON"),
        (["--kwargs", '{"clases": 3}'], "clases"),
        (["--labels", "none.txt"], "No such file"),
        (["--weights", "none.pt"], "no such weights file"),
        (["--preset", "caffe"], "caffe"),
        (["-o", "."], "is a folder"),
    ],
)
def test_wrong_options_write_nothing(folder, capsys, options, words):
    arguments = ["export", "--model", "my_tiny_model:Tiny", "--input-size", "32", "-o", "x.cam.onnx", *options]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert next(line for line in err.splitlines() if "chatter" not in line).startswith("cfcam: error: ")
    assert not list(folder.glob("*.onnx"))


def test_suspicious_units_are_pointed_out(folder, capsys):
    main(["export", "--model", "nope:x", "--mean", "123,117,104", "-o", "x.cam.onnx"])
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("cfcam: warning: mean 123,117,104 lies outside 0..1")
    assert error.startswith("cfcam: error: ")


def test_built_in_labels(folder):
    labels = read_label_option("imagenet", 1)
    assert labels is not None
    assert (len(labels), labels[0], labels[196]) == (1001, "background", "Boston bull")
    (folder / "imagenet").write_text("mine\n")
    assert read_label_option("imagenet") == ("mine",), "a file comes first"
    assert read_label_option(None) is None


@pytest.mark.slow
def test_export_then_inspect_and_explain(folder):
    """The whole road in processes of their own; explaining must not need what exporting needs."""

    def cfcam(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "cfcam.cli", *arguments], capture_output=True, text=True, check=False
        )

    done = cfcam(
        *("export", "--model", "my_tiny_model:Tiny", "--kwargs", '{"classes": 3}', "--labels", "labels.txt"),
        *("--input-size", "37x45", "--color", "bgr", "--resize", "stretch", "-o", "new/x.cam.onnx"),
    )
    assert done.returncode == 0, done.stderr
    assert "chatter" not in done.stdout
    assert "chatter of the model" in done.stderr
    assert "FAILED" not in done.stdout
    assert "new/x.cam.onnx" in done.stdout
    spec = json.loads(cfcam("inspect", "new/x.cam.onnx", "--json").stdout)
    assert (spec["input"]["height"], spec["input"]["width"], spec["input"]["color"]) == (37, 45, "bgr")
    assert spec["input"]["mean"] == [0.406, 0.456, 0.485]
    assert spec["input"]["resize"]["mode"] == "stretch"
    assert spec["output"]["labels"] == ["cat", "dog", "bird"]
    assert spec["source"]["name"] == "my_tiny_model:Tiny"
    assert spec["opset"] == 18
    from PIL import Image

    Image.effect_mandelbrot((80, 60), (-2, -1, 1, 1), 50).convert("RGB").save("photo.png")
    done = cfcam("explain", "new/x.cam.onnx", "photo.png", "-t", "dog", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["label"] == "dog"


@pytest.mark.slow
def test_a_model_that_cannot_be_proved_is_not_written(folder, capsys):
    assert main(["export", "--model", "my_tiny_model:random_answers", "--input-size", "32", "-o", "x.cam.onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("cfcam: error: ")
    assert not list(folder.glob("*.onnx"))


def test_missing_pytorch_names_the_extra(folder):
    code = """
import sys
sys.modules["torch"] = None
from cfcam.cli import main
sys.exit(main(["export", "--model", "my_tiny_model:Tiny", "-o", "x.cam.onnx"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cfcam[export]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
