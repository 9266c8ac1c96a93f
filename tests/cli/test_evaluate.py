"""``cfcam evaluate``."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from cfcam.calibration.evaluate import Evaluation
from cfcam.cli import main
from cfcam.runtime.errors import OutputError
from PIL import Image

_FEW = ["--methods", "gradcam,layercam", "--baselines", "centre"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four photos of two colours in a folder of their own; the current folder is another one."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 60, (40, 60, 3), dtype=np.uint8)
        pixels[10:25, 5 + 5 * number : 30 + 5 * number, number % 2] = 240
        Image.fromarray(pixels).save(photos / f"p{number}.png")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CFCAM_CACHE", str(tmp_path / "cache"))
    return photos


@pytest.fixture
def model(tiny_path):
    return str(tiny_path("logits"))


def test_json_and_going_on(model, folder, capsys):
    command = ["evaluate", model, "--images", str(folder), *_FEW, "--json", "--journal", "kept.jsonl"]
    assert main([*command, "--limit", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first = json.loads(out)
    assert first["schema"] == "cfcam.evaluate/2"
    assert (len(first["photos"]), first["resumed"]) == (2, 0)
    assert main(command) == 0
    second = json.loads(capsys.readouterr().out)
    assert (len(second["photos"]), second["resumed"]) == (4, 2)
    assert second["photos"][:2] == first["photos"]
    found = Evaluation.from_dict(second)
    cell = second["table"]["cells"]["layercam"]["adcc"]
    assert cell["mean"] == pytest.approx(found.values("layercam", "adcc").mean())
    assert cell["low"] is None, "four photos are too few"
    assert [path.name for path in folder.parent.joinpath("work").iterdir()] == ["kept.jsonl"]


def test_a_run_that_fails_goes_on_from_the_cache_and_leaves_nothing_when_it_is_done(model, folder, capsys, monkeypatch):
    from cfcam.calibration.evaluate import report

    command = ["evaluate", model, "--images", str(folder), *_FEW, "--report", "r.html"]
    cache = folder.parent / "cache" / "journals"
    with monkeypatch.context() as broken:
        broken.setattr(report.page, "write_bytes", _full_disk)
        assert main(command) == 2
    (journal,) = cache.iterdir()
    assert journal.read_bytes().count(b"\n") == 4
    capsys.readouterr()
    assert main(command) == 0
    assert "4 of 4 photos were already measured" in capsys.readouterr().err
    assert list(cache.iterdir()) == []
    assert [path.name for path in folder.parent.joinpath("work").iterdir()] == ["r.html"]
    assert main([*command, "--journal", "none"]) == 0
    assert "already measured" not in capsys.readouterr().err


def _full_disk(path, data):
    raise OutputError(f"{path}: cannot be written (no space left)")


def test_table_report_and_sheet(model, folder, tmp_path, capsys):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x0,y0,x1,y1\n" + "".join(f"p{n}.png,.1,.2,.5,.6\n" for n in range(4)))
    report, sheet = tmp_path / "out" / "r.html", tmp_path / "out" / "s.png"
    command = ["evaluate", model, "--images", str(folder), *_FEW, "--boxes", str(boxes), "--report", str(report)]
    assert main([*command, "--sheet", str(sheet)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    head = next(line for line in lines if "pixel_precision (higher)" in line)
    assert head.split()[:2] == ["method", "ms"]
    assert any(line.startswith("centre (baseline)") for line in lines)
    assert "average_drop (lower)" in out
    assert "4 photos or mosaics are too few for an interval, at least 10 are needed" in out
    assert f"written: {report}" in err
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert Image.open(sheet).width > 600


def test_bad_photos_and_boxes_for_photos_that_are_not_there(model, folder, tmp_path, capsys):
    (folder / "broken.png").write_bytes((folder / "p0.png").read_bytes()[:100])
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"file": name, "boxes": [[0, 0, 1, 1]]} for name in ("p0.png", "away.png")]))
    command = ["evaluate", model, "--images", str(folder), *_FEW, "--boxes", str(boxes), "--journal", "none"]
    assert main([*command, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert len(document["photos"]) == 4
    errors = [entry["error"] for entry in document["errors"]]
    assert any("names away.png, which is not among the photos" in error for error in errors)
    assert any("broken.png: is truncated or damaged" in error for error in errors)
    assert main(command) == 1
    err = capsys.readouterr().err
    assert err.count("cfcam: error:") == 2
    assert "photos have no boxes or mask" in err
    boxes.write_text(json.dumps([{"file": "away.png", "boxes": [[0, 0, 1, 1]]}]))
    assert main(command) == 2
    assert "fits none of the 5 photos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "77"], "target 77 is out of range: the model has 6 classes"),
        (["--methods", "gradkam"], "unknown method 'gradkam'; did you mean 'gradcam'?"),
        (["--measures", "beauty"], "unknown measure 'beauty': expected some of adcc"),
        (["--boxes", "a.json", "--masks", "b"], "give --boxes or --masks, not both"),
        (["--report", "r.pdf"], "--report: expected a name that ends in .html"),
        (["--sheet", "s.gif"], "--sheet: expected a name that ends in .png or .jpg"),
        (["--masks", "nowhere"], "nowhere: is no folder of masks"),
    ],
)
def test_refused(model, folder, capsys, options, words):
    assert main(["evaluate", model, "--images", str(folder), *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err


def test_a_folder_without_images(model, tmp_path, capsys):
    assert main(["evaluate", model, "--images", str(tmp_path)]) == 2
    assert "no images in this folder" in capsys.readouterr().err


def test_nothing_readable(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    assert main(["evaluate", model, "--images", "a.png", "--report", "r.html"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "a.png: is not an image of a kind that is read" in err
    assert not (tmp_path / "r.html").exists()


def test_one_class_for_everything_is_said(model, folder, capsys):
    for number in (1, 3):
        (folder / f"p{number}.png").unlink()
    assert main(["evaluate", model, "--images", str(folder), *_FEW, "--measures", "class_sensitivity"]) == 0
    assert "warning: the model's top class is 'dark, black' (4) for all 2 photos" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(model, folder, tmp_path):
    """A real process, killed as soon as the journal has a line."""
    for number in range(4, 30):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{number}.png")
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-m", "cfcam.cli", "evaluate", model, "--images", str(folder), "--json"]
    command += ["--journal", str(journal), "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not journal.exists() or not journal.read_bytes().count(b"\n")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    lines = journal.read_bytes().count(b"\n")
    assert 1 <= lines < 30
    with journal.open("ab") as file:
        file.write(b'{"key": "half')
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(again.stdout)
    assert document["resumed"] == lines
    assert len(document["photos"]) == 30
