"""``cfcam export --onnx``: options, notes, errors, and that PyTorch is not needed."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.cli import main
from cfcam.runtime.contract.spec import SCHEMA
from PIL import Image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    onnx.save(onnx_classifiers.plain(), tmp_path / "net.onnx")
    onnx.save(onnx_classifiers.plain(size=["h", "w"]), tmp_path / "free.onnx")
    onnx.save(onnx_classifiers.tokens(), tmp_path / "tokens.onnx")
    whole = (tmp_path / "net.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "labels.txt").write_text("\n".join("abcdef"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give one of --model (PyTorch) and --onnx"),
        (["--onnx", "net.onnx", "--model", "a:b"], "give one of --model (PyTorch) and --onnx"),
        (["--onnx", "net.onnx", "--weights", "a.pt", "--opset", "18"], "--weights, --opset: not with --onnx"),
        (["--model", "a:b", "--prefix-tokens", "1"], "--prefix-tokens: not with --model"),
        (["--onnx", "net.onnx", "--unit", "years"], "add --score-kind regression"),
        (["--onnx", "net.onnx", "--reference", "labels.txt"], "--reference needs a .npy file"),
        (["--onnx", "none.onnx"], "none.onnx"),
        (["--onnx", "cut.onnx"], "cut.onnx"),
        (["--onnx", "net.onnx", "--layer", "midle"], "nearest: middle"),
        (["--onnx", "net.onnx", "--score", "last"], "expected (N, classes)"),
        (["--onnx", "net.onnx", "--input-size", "64"], "its size is fixed in the file, it cannot become 64x64"),
        (["--onnx", "free.onnx"], "say which with --input-size"),
        (["--onnx", "tokens.onnx", "--grid", "5x5"], "17 tokens"),
        (["--onnx", "net.onnx", "--grid", "wide"], "--grid: expected"),
        (["--onnx", "net.onnx", "-o", "net.onnx"], "is the model itself"),
        (["--onnx", "net.onnx", "--labels", "labels.txt"], "6 labels for a model of 7 classes"),
    ],
)
def test_wrong_requests_write_nothing(folder, capsys, options, words):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["export", "-o", "x.cam.onnx", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
    assert err.startswith("cfcam: error: ")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_written_and_said(folder, capsys):
    arguments = ["--layer", "middle", "--labels", "labels.txt", "--label-offset", "1", "--with-tail"]
    code = main(
        ["export", "--onnx", "net.onnx", *arguments, "--preset", "tf", "--resize", "stretch", "-o", "new/x.cam.onnx"]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    assert err == ""
    assert "FAILED" not in out
    assert "new/x.cam.onnx: " in out
    assert "layer middle (12 channels, 8x8), detail early (8 channels, 16x16), 7 classes" in out
    assert "new/x.tail.onnx: " in out
    assert "cam_activations -> logits" in out
    assert main(["inspect", "new/x.cam.onnx", "--json"]) == 0
    spec = json.loads(capsys.readouterr().out)
    assert spec["schema"] == SCHEMA
    assert spec["source"]["kind"] == "onnx"
    assert spec["tail"]["file"] == "x.tail.onnx"
    assert spec["output"]["labels"] == ["background", *"abcdef"]
    assert spec["input"]["resize"]["mode"] == "stretch"


def test_notes_are_told(folder, capsys):
    b = onnx_classifiers.Builder()
    onnx_classifiers._head(b, onnx_classifiers._features(b), out="scores")
    b("Softmax", "scores", axis=1, out="probabilities")
    model = b.model({"probabilities": [1, onnx_classifiers.CLASSES]}, [1, 3, 32, 32], opset=11)
    onnx.save(model, folder / "old.onnx")
    assert main(["export", "--onnx", "old.onnx", "-o", "x.cam.onnx"]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert all(line.startswith("cfcam: note: ") for line in notes)
    assert [word for word in ("opset 11", "softmax", "batch is fixed to 1") if not any(word in n for n in notes)] == []


def test_layers_and_tokens_can_be_described(folder, capsys):
    assert main(["export", "--onnx", "tokens.onnx", "--grid", "4x4", "--prefix-tokens", "1", "-o", "x.cam.onnx"]) == 0
    assert "12 channels, 4x4" in capsys.readouterr().out
    assert main(["export", "--onnx", "tokens.onnx", "--grid", "2x8", "--prefix-tokens", "1", "-o", "z.cam.onnx"]) == 2
    assert "export it with --grid 4x4" in capsys.readouterr().err
    assert main(["export", "--onnx", "free.onnx", "--input-size", "40x56", "-o", "y.cam.onnx"]) == 0
    assert "16 channels, 10x14" in capsys.readouterr().out


def test_several_layers_and_what_is_said_of_each(folder, capsys):
    layers = ["--layer", "normed", "--layer", "stream", "--prefix-tokens", "1"]
    code = main(["export", "--onnx", "tokens.onnx", *layers, "--grid", "4x4", "--grid", "4x4", "-o", "x.cam.onnx"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "layers normed (12 channels, 4x4), stream (12 channels, 4x4), 7 classes" in out
    assert "layer 'stream': gradient in float64 against differences" in out
    assert main(["layers", "x.cam.onnx"]) == 0
    out, err = capsys.readouterr()
    assert "explains layer 'normed, stream' already" in err
    assert "normed" in out
    assert "stream" in out
    three = ["--grid", "4x4"] * 3
    assert main(["export", "--onnx", "tokens.onnx", *layers, *three, "-o", "y.cam.onnx"]) == 2
    assert "--grid: given 3 times for 2 layers" in capsys.readouterr().err
    assert main(["export", "--onnx", "tokens.onnx", "--layer", "stream", "--layer", "stream", "-o", "y.cam.onnx"]) == 2
    assert "layer 'stream' is named twice" in capsys.readouterr().err
    assert not (folder / "y.cam.onnx").exists()


def test_photos_for_the_proof(folder, capsys):
    (folder / "photos").mkdir()
    command = ["export", "--onnx", "net.onnx", "--images", "photos", "-o", "x.cam.onnx"]
    for count, name in enumerate("abcdefg"):
        Image.fromarray(np.random.default_rng(count).integers(0, 256, (40, 50, 3), np.uint8)).save(f"photos/{name}.png")
        if count == 0:
            assert main(command) == 2
            assert "the proof needs at least two photos" in capsys.readouterr().err
    (folder / "photos" / "b.png").write_bytes(b"no photo")
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "b.png" in err
    row = next(line for line in out.splitlines() if line.startswith("images whose gradient is not zero"))
    assert row.split()[-4] == "5"


def test_pytorch_is_not_needed(folder):
    """The whole road, from the plain model to the picture, where importing torch fails."""
    code = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnxscript", "safetensors", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
from PIL import Image
from cfcam.cli import main
from PIL import Image
Image.effect_mandelbrot((80, 60), (-2, -1, 1, 1), 50).convert("RGB").save("photo.png")
code = main(["export", "--onnx", "net.onnx", "--with-tail", "-o", "x.cam.onnx"])
code = code or main(["explain", "x.cam.onnx", "photo.png", "-o", "why.png"])
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "why.png").stat().st_size > 1000
    assert (folder / "x.tail.onnx").exists()
