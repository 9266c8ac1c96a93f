"""``cfcam check``."""

import json
import subprocess
import sys

import pytest
from cfcam.cli import main
from cfcam.cli.data import data_file

pytest.importorskip("onnx")


@pytest.fixture
def photo():
    with data_file("two_dogs.jpg") as path:
        yield str(path)


def test_table_and_verdict(tiny_path, capsys):
    path = str(tiny_path("softmax"))
    assert main(["check", path]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["check", "value", "limit"]
    row = next(line for line in lines if line.startswith("gradient in float64 against differences"))
    assert row.split()[-3:] == ["<=", "0.0001", "ok"]
    assert lines[-1].startswith(f"{path}: layer relu, ")
    assert lines[-1].endswith(": all checks hold")
    assert err == ""


def test_json_is_what_calibration_measures(tiny_path, photo, capsys):
    from cfcam.calibration.check import check_file

    path = str(tiny_path("logits"))
    assert main(["check", path, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["schema"] == "cfcam.check/1"
    assert document["ok"] is True
    assert document["images"]["kind"] == "random"
    report = check_file(path)
    assert [(row["name"], row["value"]) for row in document["checks"]] == [(r.name, r.value) for r in report.rows]
    assert document["model"] == {"path": path, "sha256": report.sha256, "layer": "relu"}
    assert main(["check", path, "--images", photo, "--images", str(photo) + "*", "--json"]) == 2, "one photo, twice"
    assert "at least two photos" in capsys.readouterr().err


def test_photos(tiny_path, tmp_path, photo, capsys):
    from PIL import Image

    for turn in range(4):
        Image.open(photo).resize((120, 90)).rotate(90 * turn, expand=True).save(tmp_path / f"{turn}.png")
    assert main(["check", str(tiny_path("pad")), "--images", str(tmp_path), "--limit", "3", "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert images == {"kind": "photos", "count": 3, "files": [str(tmp_path / f"{i}.png") for i in range(3)]}
    (tmp_path / "0.png").write_text("no image")
    assert main(["check", str(tiny_path("pad")), "--images", str(tmp_path), "--json"]) == 1, "one could not be read"
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert [entry["image"] for entry in document["errors"]] == [str(tmp_path / "0.png")]


def test_a_wrong_file_is_told_by_the_exit_code(tiny_path, tmp_path, capsys):
    from broken_files import broken
    from cfcam.export.graph import load_model
    from cfcam.export.writing import write_model

    path = tmp_path / "wrong.cam.onnx"
    write_model(broken(load_model(tiny_path("logits")), "sign_flipped"), path)
    assert main(["check", str(path)]) == 1
    out, _ = capsys.readouterr()
    assert "FAILED" in out
    assert "1 of " in out.splitlines()[-1]
    assert main(["check", str(path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [row["name"] for row in document["checks"] if row["status"] == "failed"] == [
        "gradient in float64 against differences"
    ]


def test_source(tiny_path, tmp_path, capsys):
    import onnx

    source = tmp_path / "source.onnx"
    onnx.utils.extract_model(str(tiny_path("logits")), str(source), ["image"], ["scores"])
    assert main(["check", str(tiny_path("logits")), "--source", str(source)]) == 0
    assert "output 'scores' against the plain model" in capsys.readouterr().out
    assert main(["check", str(tiny_path("softmax")), "--source", str(source)]) == 1, "it has other outputs"
    assert "output 'scores' against the plain model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.cam.onnx"], "no such file"),
        (["{plain}"], "was not made by `cfcam export`"),
        (["{logits}", "--source", "none.onnx"], "no such file"),
        (["{logits}", "--images", "no_folder"], "at least two photos"),
        (["{logits}", "--limit", "1"], "--limit"),
    ],
)
def test_what_cannot_be_done(tiny_path, capsys, arguments, words):
    assert main(["check", *(a.format(plain=tiny_path("plain"), logits=tiny_path("logits")) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("cfcam: error: ")


def test_missing_onnx_names_the_extra(tiny_path):
    code = """
import sys
sys.modules["onnx"] = None
from cfcam.cli import main
sys.exit(main(["check", sys.argv[1]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_path("logits"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "cfcam[onnx]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
