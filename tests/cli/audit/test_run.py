"""``cfcam audit run`` as a user meets it: tables, JSON, exit codes."""

import json

import pytest

pytest.importorskip("pyarrow")

from cfcam.cli import main
from photo_sources import make_archive
from small_photos import corrupt_photos, make_photos


@pytest.fixture
def arguments(tiny_path, tmp_path):
    make_photos(tmp_path / "photos", 3)
    return ["audit", "run", str(tiny_path("logits")), "--images", str(tmp_path / "photos"), "-o", str(tmp_path / "a")]


def test_an_audit_prints_what_was_found_and_ends_with_0(arguments, capsys):
    assert main([*arguments, "--clock", "wall"]) == 0
    said = capsys.readouterr()
    assert "3 of 3 photos audited: label, map, class, noise, removal" in said.out
    assert "no_map" in said.out
    assert "wall time per photo" in said.out
    assert "written:" in said.err


def test_photos_with_errors_end_with_1_and_json_is_one_document(arguments, tmp_path, capsys):
    corrupt_photos(tmp_path / "photos", 2)
    assert main([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {
        "photos": 5,
        "audited": 3,
        "errors": 2,
        "contents": 3,
        "with_finding": pytest.approx(1, abs=2),
    }
    assert main(arguments) == 1
    assert "corrupt0.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budget-ms", "0.000001"], "give at least --budget-ms"),
        (["--ladder", "rope"], "--ladder: expected planned or adaptive"),
        (["--clock", "sun"], "--clock: expected cpu or wall"),
        (["--plan", "none.json"], "none.json"),
        (["--boxes", "none.json"], "none.json"),
        (["--masks", "none"], "none"),
        (["--method", "gradkam"], "gradcam"),
        (["--method", "scorecam"], "--method cfcam"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_ends_with_2(arguments, more, message, capsys):
    assert main([*arguments, *more]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_folder_without_photos_ends_with_2(arguments, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    arguments[arguments.index("--images") + 1] = str(tmp_path / "none")
    assert main(arguments) == 2
    assert "error" in capsys.readouterr().err


def test_an_archive_is_named_like_photos_and_every_nth_frame_needs_frames(arguments, tmp_path, capsys):
    data = (tmp_path / "photos" / "photo000.png").read_bytes()
    archive = make_archive(tmp_path / "a.tar", [("x/0.png", data), ("x/1.png", b"none")])
    assert main([*arguments, "--images", str(archive)]) == 1
    said = capsys.readouterr()
    assert "4 of 5 photos audited" in said.out
    assert f"{archive}#x/1.png: is not an image" in said.err
    assert main([*arguments, "--images", str(archive), "--every", "2"]) == 2
    assert "leave --every out" in capsys.readouterr().err


def test_explanations_that_do_not_stand_for_the_models_end_with_1(arguments, tiny_path, tmp_path, capsys):
    spoilt_files = pytest.importorskip("spoilt_files")
    reference = arguments[2]
    arguments[2] = str(spoilt_files.other_class(tiny_path("logits"), tmp_path / "wrong.cam.onnx"))
    command = [*arguments, "--method", "gradcam", "--against", reference, "--against-photos", "2"]
    assert main(command) == 1
    assert "logits.cam.onnx, on 2 photos: " in capsys.readouterr().out
    (tmp_path / "limits.yaml").write_text("against: failed\n")
    assert main([*command, "--limits", str(tmp_path / "limits.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["against"]["verdict"] in ("failed", "undecided")
    assert main([*command[:-4], "--against", str(tmp_path / "none.cam.onnx")]) == 2
    assert "none.cam.onnx" in capsys.readouterr().err
