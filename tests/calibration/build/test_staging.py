"""Products appear together or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from cfcam.calibration.build.staging import check_folder, publish, staging_in
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.runtime.errors import OutputError


def test_manifests_come_last_and_old_ones_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.onnx", "x.onnx.manifest.json"):
        (tmp_path / name).write_text("old")
    with staging_in(tmp_path, "x") as stage:
        assert stage.parent == tmp_path
        assert stage.name.startswith(".x.")
        for name in ("x.engine.manifest.json", "x.engine", "x.onnx.manifest.json", "x.onnx"):
            (stage / name).write_text("new")
        moved: list[str] = []
        real = os.replace

        def replace(source: Path, target: Path) -> None:
            assert not (tmp_path / "x.onnx.manifest.json").exists() or "x.onnx.manifest.json" in moved
            moved.append(Path(target).name)
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        publish(stage, tmp_path)
    assert moved == ["x.engine", "x.onnx", "x.engine.manifest.json", "x.onnx.manifest.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(moved)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"new"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_leaves_nothing(tmp_path: Path, wrapped: bool) -> None:
    def fill(stage: Path) -> None:
        (stage / "x.onnx").write_text("half")
        if wrapped:  # as a pass says it that wrote into the folder
            raise OutputError(f"{stage / 'x.onnx'}: cannot be written (No space left on device)")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device") as caught, staging_in(tmp_path, "x") as stage:
        fill(stage)
    assert str(caught.value).startswith(str(tmp_path))
    assert ".part" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_errors_name_the_final_place_and_stay_what_they_are(tmp_path: Path) -> None:
    error = UnsupportedOperatorError("", "x")

    def fail(stage: Path) -> None:
        error.args = (f"{stage / 'x.onnx'}: not written, twice in {stage}", 3)
        raise error

    with pytest.raises(UnsupportedOperatorError) as caught, staging_in(tmp_path, "x") as stage:
        fail(stage)
    assert caught.value is error
    assert (error.args, error.value) == ((f"{tmp_path / 'x.onnx'}: not written, twice in {tmp_path}", 3), "x")


def test_an_interrupt_while_the_folder_is_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir

    def interrupted(path: Path, *rest: Any, **options: Any) -> None:
        real(path, *rest, **options)
        if path.suffix == ".part":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), staging_in(tmp_path, "x"):
        pass
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: is a file, the folder for the products was expected"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        check_folder(tmp_path / "file" / "below")
    check_folder(tmp_path / "new" / "deep")
    assert not list((tmp_path / "new" / "deep").iterdir())
