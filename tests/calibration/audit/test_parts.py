"""Parts on disk: whole or not there, and what was changed is noticed."""

import os

import pytest

pytest.importorskip("pyarrow")

from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.parts import iter_rows, locked, read_parts, write_part
from cfcam.calibration.audit.row import empty_row
from cfcam.runtime.errors import OutputError


def row(name, **more):
    return empty_row(name, "0f") | {"grid": [0, 255], "findings": ["no_map"], "probability": 0.1, **more}


def test_rows_come_back_as_they_were_from_all_parts(tmp_path):
    rows = [row("b.png"), row("a.png", margin=1 / 3), row("c.png", error="bad")]
    first = write_part(tmp_path, rows[:2])
    second = write_part(tmp_path, rows[2:])
    assert first.name.startswith("part-000001-")
    assert second.name.startswith("part-000002-")
    assert read_parts(tmp_path) == [rows[1], rows[0], rows[2]]
    assert read_parts(tmp_path / "none") == []


def test_what_a_killed_run_left_unfinished_is_no_part(tmp_path):
    write_part(tmp_path, [row("a.png")])
    (tmp_path / ".part-000002-00.parquet.cfcam-000000000000.part").write_bytes(b"half")
    assert len(read_parts(tmp_path)) == 1


@pytest.mark.parametrize("change", ["byte", "name", "cut"])
def test_a_changed_part_is_refused_and_the_remedy_works(tmp_path, change):
    path = write_part(tmp_path, [row("a.png")])
    data = bytearray(path.read_bytes())
    if change == "byte":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif change == "cut":
        path.write_bytes(data[:-5])
    else:
        path = path.rename(tmp_path / "part-000001-0000000000000000.parquet")
    with pytest.raises(AuditError, match="changed or renamed; remove it"):
        read_parts(tmp_path)
    path.unlink()
    assert read_parts(tmp_path) == []


def test_a_photo_that_is_there_twice_is_refused(tmp_path):
    write_part(tmp_path, [row("a.png")])
    write_part(tmp_path, [row("a.png"), row("b.png")])
    with pytest.raises(AuditError, match=r"holds 'a\.png' twice"):
        read_parts(tmp_path)


def test_an_error_is_of_no_account_when_the_photo_comes_again_and_parts_are_read_one_by_one(tmp_path):
    write_part(tmp_path, [row("a.png", error="out of memory"), row("b.png")])
    write_part(tmp_path, [row("a.png"), row("c.png", error="bad")])
    assert [(one["image"], one["error"]) for one in read_parts(tmp_path)] == [
        ("b.png", None),
        ("a.png", None),
        ("c.png", "bad"),
    ]
    assert [one["image"] for one in iter_rows(tmp_path)] == ["a.png", "c.png", "b.png"]
    assert list(iter_rows(tmp_path, ("probability",), {"b.png"})) == [
        {"image": "b.png", "error": None, "probability": 0.1}
    ]


def test_a_full_disk_is_an_output_error_and_leaves_the_other_parts(tmp_path, monkeypatch):
    write_part(tmp_path, [row("a.png")])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_part(tmp_path, [row("b.png")])
    monkeypatch.undo()
    assert [one["image"] for one in read_parts(tmp_path)] == ["a.png"]
    assert len(os.listdir(tmp_path)) == 1


def test_two_audits_do_not_write_into_one_folder(tmp_path):
    twice = (locked(tmp_path / "a"), locked(tmp_path / "a"))
    with twice[0], pytest.raises(AuditError, match="another audit is writing"), twice[1]:
        pass
    with locked(tmp_path / "a"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "file"):
        pass
