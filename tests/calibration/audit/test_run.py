"""Audits from start to end: stopped, killed, and with what does not fit."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from cfcam.calibration.audit import AuditError, AuditOptions, audit
from cfcam.calibration.audit.parts import read_parts
from cfcam.calibration.audit.row import UNREPEATED
from cfcam.runtime.errors import CfcamError, OutputError
from photo_sources import make_archive, make_recording, make_video
from small_photos import corrupt_photos, make_photos


@pytest.fixture
def model(tiny_path):
    return tiny_path("logits")


def rows(folder):
    found = sorted(read_parts(folder / "parts"), key=lambda row: row["image"])
    return [{name: value for name, value in row.items() if name not in UNREPEATED} for row in found]


def test_an_audit_writes_plan_parts_and_summary_and_does_nothing_when_run_again(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 5)
    told = []
    document = audit(model, photos, tmp_path / "a", progress=lambda *done: told.append(done))
    assert told[0] == (0, 5)
    assert told[-1] == (5, 5)
    assert document["counts"]["audited"] == 5
    assert json.loads((tmp_path / "a" / "summary.json").read_text()) == document
    before = sorted(os.listdir(tmp_path / "a" / "parts"))
    assert audit(model, photos, tmp_path / "a") == document
    assert sorted(os.listdir(tmp_path / "a" / "parts")) == before


def test_with_the_plan_of_another_audit_every_lasting_column_is_the_same(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 6)
    audit(model, photos, tmp_path / "a")
    options = AuditOptions(plan=tmp_path / "a" / "plan.json", workers=2)
    audit(model, photos[::-1], tmp_path / "b", options)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_more_photos_are_added_and_two_of_one_content_are_two_rows(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    audit(model, photos[:2], tmp_path / "a")
    twin = tmp_path / "photos" / "twin.png"
    twin.write_bytes(photos[0].read_bytes())
    document = audit(model, [*photos, twin], tmp_path / "a")
    assert (document["counts"]["photos"], document["counts"]["contents"]) == (4, 3)
    first, *_, last = rows(tmp_path / "a")
    assert {**first, "image": ""} == {**last, "image": ""}


def test_half_of_the_photos_cannot_be_read_and_one_has_vanished(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 3) + corrupt_photos(tmp_path / "photos", 3)
    gone = tmp_path / "photos" / "gone.png"
    document = audit(model, [*photos, gone], tmp_path / "a")
    assert document["counts"]["errors"] == 4
    assert document["counts"]["audited"] == 3
    assert str(gone) in [entry["image"] for entry in document["errors"]]


@pytest.mark.parametrize("count", [0, 2])
def test_no_photos_or_none_that_can_be_read_is_an_error(model, tmp_path, count):
    (tmp_path / "photos").mkdir()
    photos = corrupt_photos(tmp_path / "photos", count)
    with pytest.raises(CfcamError, match=r"no photos|none of the 2 photos could be audited; the first: "):
        audit(model, photos, tmp_path / "a")
    assert not (tmp_path / "a" / "summary.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (AuditOptions(budget_ms=-1.0), "above 0"),
        (AuditOptions(ladder="adaptive"), "needs a budget"),
        (AuditOptions(against_photos=9), "give --against too"),
        (AuditOptions(certified=0), "give at least 1"),
        (AuditOptions(method="gradcam", seed=1), "another plan .seed."),
        (AuditOptions(method="hirescam"), "another plan .method"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, tmp_path, options, message):
    photos = make_photos(tmp_path / "photos", 2)
    audit(model, photos, tmp_path / "a", AuditOptions(method="gradcam"))
    with pytest.raises(AuditError, match=message):
        audit(model, photos, tmp_path / "a", options)


def test_photos_that_changed_or_are_no_longer_named_are_refused(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    audit(model, photos, tmp_path / "a")
    with pytest.raises(AuditError, match=r"1 more photos, such as .*photo002\.png"):
        audit(model, photos[:2], tmp_path / "a")
    photos[1].write_bytes(photos[0].read_bytes())
    with pytest.raises(AuditError, match=r"photo001\.png: has changed since"):
        audit(model, photos, tmp_path / "a")


def test_boxes_of_other_photos_are_refused_and_of_some_are_remarked(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x0,y0,x1,y1\nother.png,0,0,0.5,0.5\n")
    with pytest.raises(CfcamError, match=r"about none of the 2 photos.*other\.png"):
        audit(model, photos, tmp_path / "a", AuditOptions(boxes=boxes))
    boxes.write_text("file,x0,y0,x1,y1\nother.png,0,0,0.5,0.5\nphoto000.png,0,0,0.5,0.5\n")
    document = audit(model, photos, tmp_path / "a", AuditOptions(boxes=boxes))
    assert len(document["warnings"]) == 2
    assert document["findings"]["off_object"]["of"] == 1


def test_a_full_disk_stops_the_audit_which_then_goes_on(model, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 4)

    def full(*_):
        raise OutputError("parts: cannot be written (No space left on device)")

    monkeypatch.setattr("cfcam.calibration.audit.run.write_part", full)
    with pytest.raises(OutputError, match="No space left"):
        audit(model, photos, tmp_path / "a")
    monkeypatch.undo()
    assert audit(model, photos, tmp_path / "a")["counts"]["audited"] == 4


def test_limits_slices_outliers_and_a_signature_are_in_the_folder(model, tmp_path):
    from cfcam.calibration.audit.profile import make_profile, write_profile
    from cfcam.calibration.audit.signing import authenticate, make_keys

    photos = make_photos(tmp_path / "photos", 52)
    first = audit(model, photos, tmp_path / "a", AuditOptions(method="gradcam"))
    profile = make_profile(read_parts(tmp_path / "a" / "parts"), first["model"]["sha256"], "gradcam")
    write_profile(tmp_path / "profile.json", profile)
    (tmp_path / "limits.yaml").write_text("errors: 0\nfindings: {undecided: 0}\n")
    lines = [f"{photo.name},{'day' if number % 2 else 'night'}" for number, photo in enumerate(photos)]
    (tmp_path / "meta.csv").write_text("image,light\n" + "\n".join(lines) + "\n")
    make_keys(tmp_path / "key.pem")
    options = AuditOptions(
        method="gradcam",
        metadata=tmp_path / "meta.csv",
        reference=tmp_path / "profile.json",
        limits=tmp_path / "limits.yaml",
        sign=tmp_path / "key.pem",
    )
    document = audit(model, photos, tmp_path / "b", options)
    assert {one["value"] for one in document["slices"]} == {"day", "night"}
    assert document["findings"]["outlier"]["of"] == 52
    assert [one["name"] for one in document["limits"]] == ["findings.undecided", "errors"]
    assert document["limits"][1]["met"]
    assert "Limits" in (tmp_path / "b" / "report.html").read_text()
    assert authenticate(tmp_path / "b", tmp_path / "key.pub.pem").authentic
    with pytest.raises(AuditError, match="of another model or method"):
        audit(model, photos, tmp_path / "c", AuditOptions(method="hirescam", reference=tmp_path / "profile.json"))


_KILLED = """
import sys
from pathlib import Path
from cfcam.calibration.audit import AuditOptions, audit, run
run._ROWS = 3
if __name__ == "__main__":
    audit(Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir()), Path(sys.argv[3]),
          AuditOptions(workers=int(sys.argv[4])))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_audit_that_is_killed_goes_on_and_has_every_photo_once(model, tmp_path, workers):
    photos = make_photos(tmp_path / "photos", 60)
    script, folder = tmp_path / "killed.py", tmp_path / "a"
    script.write_text(_KILLED)
    process = subprocess.Popen([sys.executable, script, model, tmp_path / "photos", folder, str(workers)])
    try:
        for _ in range(3000):
            if process.poll() is not None or len(list((folder / "parts").glob("part-*"))) >= 2:
                break
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = rows(folder)
    assert 2 <= len(before) < 60
    document = audit(model, photos, folder)
    assert document["counts"]["photos"] == 60
    assert [row["image"] for row in rows(folder)] == sorted(map(str, photos))
    assert [row for row in rows(folder) if row in before] == before


def test_errors_are_tried_again_and_only_news_are_written(model, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 3)
    data = photos[0].read_bytes()
    photos[0].write_bytes(data[:50])
    photos[1].rename(tmp_path / "away.png")
    assert audit(model, photos, tmp_path / "a")["counts"]["errors"] == 2
    before = sorted(os.listdir(tmp_path / "a" / "parts"))
    assert audit(model, photos, tmp_path / "a")["counts"]["errors"] == 2
    assert sorted(os.listdir(tmp_path / "a" / "parts")) == before
    photos[0].write_bytes(data)
    (tmp_path / "away.png").rename(photos[1])
    assert audit(model, photos, tmp_path / "a")["counts"]["errors"] == 0
    audit(model, photos, tmp_path / "b", AuditOptions(plan=tmp_path / "a" / "plan.json"))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_a_key_that_cannot_sign_is_refused_before_anything_is_measured(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 1)
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(CfcamError, match="is no private key"):
        audit(model, photos, tmp_path / "a", AuditOptions(sign=tmp_path / "key.pem"))
    assert not (tmp_path / "a").exists()


def test_an_interruption_right_behind_a_part_writes_it_once(model, tmp_path, monkeypatch):
    from cfcam.calibration.audit import run

    write_part = run.write_part

    def interrupted(folder, batch):
        write_part(folder, batch)
        raise KeyboardInterrupt

    photos = make_photos(tmp_path / "photos", 4)
    with monkeypatch.context() as patched:
        patched.setattr(run, "write_part", interrupted)
        patched.setattr(run, "_ROWS", 2)
        with pytest.raises(KeyboardInterrupt):
            audit(model, photos, tmp_path / "a")
    audit(model, photos, tmp_path / "a")
    assert [row["image"] for row in rows(tmp_path / "a")] == sorted(map(str, photos))


def test_photos_of_all_sources_have_the_figures_of_their_files_and_the_audit_goes_on(model, tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("mcap_ros2")
    import pyarrow
    import pyarrow.parquet as pq
    from cfcam.calibration.audit.sources.opening import open_sources
    from PIL import Image

    photos = make_photos(tmp_path / "photos", 3)
    data = [photo.read_bytes() for photo in photos]
    make_archive(tmp_path / "a.tar", [("0.png", data[0]), ("bad.png", b"no photo")])
    message = {"format": "png", "data": data[1]}
    make_recording(tmp_path / "a.mcap", [("/front", "sensor_msgs/msg/CompressedImage", 10**9, message)])
    make_video(tmp_path / "a.mkv", [np.asarray(Image.open(photos[2]))] * 5)
    columns = {"path": ["photos/photo000.png", "photos/gone.png"], "light": ["day", "night"]}
    pq.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    audit(model, photos, tmp_path / "a", AuditOptions(method="gradcam"))
    options = AuditOptions(plan=tmp_path / "a" / "plan.json")
    names = [str(tmp_path / name) for name in ("a.tar", "a.mcap", "m.parquet", "a.mkv")]
    tar, *_ = sources = open_sources(names, every=2)[0]
    assert audit(model, [tar], tmp_path / "b", options)["counts"] | {"with_finding": 0} == {
        **{"photos": 2, "audited": 1, "errors": 1},
        **{"contents": 1, "with_finding": 0},
    }
    document = audit(model, sources, tmp_path / "b", options)
    assert document["counts"]["photos"] == 8
    assert sorted(entry["image"] for entry in document["errors"]) == [
        str(tmp_path / "a.tar#bad.png"),
        str(tmp_path / "photos/gone.png"),
    ]
    files, found = (
        rows(tmp_path / "a"),
        {row["image"].removeprefix(f"{tmp_path}/"): row for row in rows(tmp_path / "b")},
    )
    other = {"image": "", "sha256": "", "slice": None}
    for name, number in (("a.tar#0.png", 0), ("a.mcap#/front@1.000000000", 1), ("photos/photo000.png", 0)):
        assert found[name] | other == files[number] | other
        assert found[name]["sha256"] == files[number]["sha256"]
    assert found["photos/photo000.png"]["slice"] == '{"light": "day"}'
    frames = [found[f"a.mkv#0.{tenth}00000"] for tenth in (0, 2, 4)]
    assert len({frame["sha256"] for frame in frames}) == 1
    assert frames[0]["probability"] == pytest.approx(files[2]["probability"], abs=1e-6)
    assert audit(model, sources, tmp_path / "b", options) == document
    columns["light"][0] = "dusk"
    pq.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    with pytest.raises(AuditError, match="is described in other words"):
        audit(model, sources, tmp_path / "b", options)


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_measured(model, tmp_path):
    (photo,) = make_photos(tmp_path / "photos", 1)
    odd = photo.with_name(os.fsdecode(b"\xff.png"))
    try:
        photo.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(AuditError, match="not UTF-8"):
        audit(model, [odd], tmp_path / "a")


def test_another_limit_of_pixels_is_another_audit(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 1)
    audit(model, photos, tmp_path / "a")
    with pytest.raises(AuditError, match="max_pixels"):
        audit(model, photos, tmp_path / "a", AuditOptions(max_pixels=10))
