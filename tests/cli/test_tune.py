"""``cfcam tune``."""

from __future__ import annotations

import json

import numpy as np
from cfcam.cli import main
from cfcam.runtime.contract.modelfile import read_spec
from PIL import Image


def photos(folder, count):
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_json_and_the_new_file(tiny_path, tmp_path, capsys):
    folder = photos(tmp_path / "photos", 32)
    (folder / "broken.png").write_bytes(b"not a picture")
    output = tmp_path / "tuned.cam.onnx"
    arguments = ["tune", str(tiny_path("logits")), "--images", str(folder), "-o", str(output)]
    assert main([*arguments, "--budget", "0.02", "--json"]) == 1  # one photo could not be read
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["schema"] == "cfcam.tune/1"
    assert document["searched"] + document["held_out"] == len(document["images"]) == 32
    assert [entry["image"] for entry in document["errors"]] == [str(folder / "broken.png")]
    assert read_spec(output).method.settings == document["settings"]


def test_a_table_for_people(tiny_path, tmp_path, capsys):
    folder = photos(tmp_path / "photos", 32)
    output = tmp_path / "tuned.cam.onnx"
    arguments = ["tune", str(tiny_path("logits")), "--images", str(folder), "-o", str(output), "--budget", "0"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "1 settings measured" in out
    assert "the search ran out of time" in out
    assert f"{output}: written" in err


def test_too_few_photos_write_nothing(tiny_path, tmp_path, capsys):
    folder = photos(tmp_path / "photos", 4)
    output = tmp_path / "tuned.cam.onnx"
    assert main(["tune", str(tiny_path("logits")), "--images", str(folder), "-o", str(output)]) == 2
    assert "give 20 photos or more" in capsys.readouterr().err
    assert not output.exists()


def test_the_file_that_is_read_is_refused_before_the_search(tiny_path, tmp_path, capsys):
    model = tiny_path("logits")
    before = model.read_bytes()
    assert main(["tune", str(model), "--images", str(tmp_path / "none"), "-o", str(model)]) == 2
    assert "is the file that is read; write to another name" in capsys.readouterr().err
    assert model.read_bytes() == before


def test_the_old_name_still_works_and_says_once_that_it_is_old(tiny_path, tmp_path, capsys):
    folder = photos(tmp_path / "photos", 32)
    arguments = [str(tiny_path("logits")), "--images", str(folder), "--budget", "0", "--json"]
    assert main(["calibrate", *arguments, "-o", str(tmp_path / "old.cam.onnx")]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == ["cfcam: 'cfcam calibrate' is now called 'cfcam tune'; the old name will go"]
    assert json.loads(out)["schema"] == "cfcam.tune/1"
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert " tune " in listed
    assert " calibrate " not in listed
