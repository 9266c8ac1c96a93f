"""``cfcam verify``."""

import json

import numpy as np
import pytest
import spoilt_files
from cfcam.cli import main
from cfcam.runtime.explainer import Explainer
from PIL import Image
from shared_data import shared_path


@pytest.fixture
def folder(tmp_path):
    """Four real photos, small."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted(shared_path("data/photos").glob("*.jpg"))[:4]:
        with Image.open(path) as photo:
            photo.resize((120, 60)).save(photos / f"{path.stem}.png")
    return photos


@pytest.fixture
def frozen(tiny_path, folder, tmp_path):
    """A candidate whose gradient is that of one photo, whatever the photo and the class."""
    plain = tiny_path("pad")
    with Explainer(plain, threads=1) as explainer:
        gradients = explainer.tensors([next(folder.iterdir())]).gradients
    return str(spoilt_files.freeze_gradients(plain, tmp_path / "frozen.cam.onnx", [gradients]))


def test_an_equal_file_passes(tiny_path, folder, tmp_path, capsys):
    model = str(tiny_path("pad"))
    command = ["verify", model, "--against", model, "--images", str(folder)]
    assert main([*command, "--json", "--limit", "3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert (document["schema"], document["passed"], document["count"]) == ("cfcam.verify/1", True, 3)
    assert document["layers"][0]["measures"]["spearman"]["score"] == 1
    assert document["thresholds"]["last_score"] == 0.999, "those of float32"
    assert document["layers"][0]["moved_peaks"]["limit"] >= 0.01
    assert document["layers"][0]["moved_peaks"]["by"] in ("threshold", "jitter")
    # A damaged photo is an input that failed: said, and exit code 1.
    (folder / "zz.png").write_bytes(b"\x89PNG no")
    sheet = tmp_path / "sheet.png"
    assert main([*command, "--sheet", str(sheet)]) == 1
    out, err = capsys.readouterr()
    assert "4 photos" in out
    assert "passed" in out
    assert err.count("zz.png") == 1
    assert not sheet.exists(), "nothing differs"


def test_layerwise_names_nodes(tiny_path, folder, tmp_path, capsys):
    model, report = str(tiny_path("logits")), tmp_path / "report.html"
    command = ["verify", model, "--against", model, "--images", str(folder), "--layerwise"]
    assert main([*command, "--report", str(report)]) == 0
    out, _ = capsys.readouterr()
    assert "where they part: 8 of 12 values compared, 4 photos" in out
    assert "GlobalAveragePool" in out
    html = report.read_text()
    assert "<h2>Where they part: 8 of 12 values compared, 4 photos</h2>" in html
    assert "<td>node_of_pooled</td><td>GlobalAveragePool</td><td>pooled</td><td>0.0%</td>" in html
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["layerwise"]
    assert (document["compared"], document["values"], document["photos"]) == (8, 12, 4)
    assert {one["jump"] for one in document["jumps"]} == {1}


def test_a_frozen_gradient_fails_with_pictures(tiny_path, frozen, folder, tmp_path, capsys):
    model = str(tiny_path("logits"))
    report, sheet = tmp_path / "out" / "r.html", tmp_path / "out" / "s.jpg"
    command = ["verify", frozen, "--against", model, "--images", str(folder)]
    assert main([*command, "--report", str(report), "--sheet", str(sheet)]) == 1
    out, err = capsys.readouterr()
    assert "FAILED: layer relu: Spearman score " in out
    assert out.rstrip().endswith("limits were missed")
    assert f"written: {report}" in err
    html = report.read_text()
    assert "Spearman score" in html
    assert html.count("data:image/jpeg;base64,") % 4 == 0
    assert html.count("data:image/jpeg;base64,") >= 4
    assert "://" not in html
    with Image.open(sheet) as picture:
        assert picture.width > 4 * 240
    assert main([*command, "--thresholds", '{"class_sensitivity": null}', "--json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out)
    assert "class_sensitivity" not in {one["measure"] for one in document["failures"]}


def test_a_reference_without_maps_judges_nothing(tiny_path, folder, tmp_path, capsys):
    plain = tiny_path("pad")
    with Explainer(plain, threads=1) as explainer:
        zero = np.zeros_like(explainer.tensors([next(folder.iterdir())]).gradients)
    dead = str(spoilt_files.freeze_gradients(plain, tmp_path / "dead.cam.onnx", [zero]))
    report = tmp_path / "report.html"
    command = ["verify", dead, "--against", dead, "--images", str(folder), "--report", str(report)]
    assert main(command) == 1
    out, _ = capsys.readouterr()
    assert "FAILED: layer relu: the reference has no map on any photo" in out
    assert "photos with a map in the reference" in out
    assert "photos with a map in the reference" in report.read_text()
    assert main([*command, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["layers"][0]["count"]) == (False, 0)
    assert [one["measure"] for one in document["failures"]] == ["reference_maps"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--thresholds", '{"last_scores": 1}'], "there is no 'last_scores'; did you mean 'last_score'"),
        (["--thresholds", '{"top1": 2}'], "top1: expected a number from 0.0 to 1"),
        (["--report", "r.pdf"], "--report: expected a name that ends in .html"),
        (["--report", f"{__file__}/r.html"], "r.html: cannot be written there"),
        (["--sheet", f"{__file__}/s.png"], "s.png: cannot be written there"),
        (["--layer", "conv1"], "conv1"),
        (["--method", "magic"], "unknown method 'magic'"),
    ],
)
def test_refused(tiny_path, folder, capsys, options, words):
    model = str(tiny_path("logits"))
    assert main(["verify", model, "--against", model, "--images", str(folder), *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err


def test_a_wrong_pair(tiny_path, folder, capsys):
    model = str(tiny_path("logits"))
    assert main(["verify", str(tiny_path("binary")), "--against", model, "--images", str(folder)]) == 2
    assert "do not belong together: classes: 1 and 6" in capsys.readouterr().err
