"""Repositories: what is in them, all or nothing, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cfcam.export.errors import ExportError
from cfcam.export.triton.config import TritonPlan
from cfcam.export.triton.repository import MODEL_PY, default_name, write_repository
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import ModelFileError, OutputError

pytest.importorskip("onnx", reason="repositories are written with onnx")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["one", "ensemble", "bls"])
def test_the_file_lies_once_in_a_repository(layout: Any, tiny_path, tmp_path: Path) -> None:
    path, plan = tiny_path("logits"), TritonPlan(name="m", layout=layout)
    written = write_repository(path, tmp_path / "a" / "repo", plan)
    assert written.models == plan.models
    graphs = {file.parent.parent.name: file for file in written.path.rglob("model.onnx")}
    whole = [name for name, file in graphs.items() if file.read_bytes() == path.read_bytes()]
    assert whole == ["m" if layout == "one" else "m_engine"]
    assert all(read_spec(file) == read_spec(path) for file in graphs.values())
    assert "m_engine/1/model.py" not in files(written.path)
    assert written.readme.read_text().startswith("# m\n")
    assert [entry.name for entry in written.path.parent.iterdir()] == ["repo"]


def test_a_plain_model_is_the_file_and_its_labels(tiny_path, tmp_path: Path) -> None:
    path = tiny_path("logits")
    write_repository(path, tmp_path, TritonPlan(name="m", layout="plain"))
    assert files(tmp_path) == {"m/config.pbtxt", "m/README.md", "m/labels.txt", "m/1/model.onnx"}
    assert (tmp_path / "m" / "1" / "model.onnx").read_bytes() == path.read_bytes()
    assert (tmp_path / "m" / "labels.txt").read_text().splitlines() == list(read_spec(path).output.labels or ())


def test_heads_hold_no_weights(tiny_path, tmp_path: Path) -> None:
    import onnx

    write_repository(tiny_path("logits"), tmp_path, TritonPlan(name="m", layout="bls"))
    graph = onnx.load(str(tmp_path / "m" / "1" / "model.onnx")).graph
    assert (len(graph.node), len(graph.initializer)) == (0, 0)
    assert len(graph.output) == 4


def test_the_tail_comes_along(tiny_path, tmp_path: Path) -> None:
    write_repository(tiny_path("tail"), tmp_path, TritonPlan(name="m", layout="bls"))
    assert "m/1/tail.tail.onnx" in files(tmp_path)


def test_other_models_stay_and_the_same_needs_force(tiny_path, tmp_path: Path) -> None:
    path = tiny_path("logits")
    write_repository(path, tmp_path, TritonPlan(name="a"))
    write_repository(path, tmp_path, TritonPlan(name="b"))
    before = files(tmp_path)
    (tmp_path / "a" / "mine").touch()
    with pytest.raises(OutputError, match=r"has the model 'a' already.*--force"):
        write_repository(path, tmp_path, TritonPlan(name="a"))
    assert (tmp_path / "a" / "mine").exists()
    write_repository(path, tmp_path, TritonPlan(name="a"), force=True)
    assert files(tmp_path) == before


def test_what_was_there_comes_back(tiny_path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plan = tiny_path("logits"), TritonPlan(name="m", layout="bls")
    write_repository(path, tmp_path, plan)
    (tmp_path / "m_engine" / "mine").touch()
    (tmp_path / "m" / "mine").touch()
    rename, calls = os.rename, []

    def fail_at_the_last(old: Any, new: Any) -> None:
        calls.append(new)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail_at_the_last)
    with pytest.raises(OutputError, match="No space left"):
        write_repository(path, tmp_path, plan, force=True)
    assert {"m/mine", "m_engine/mine"} <= files(tmp_path)


@pytest.mark.parametrize("name", ["a/b", "", ".a", "a b", "ü"])
def test_names_that_addresses_do_not_hold_are_refused(name: str, tiny_path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected letters, digits"):
        write_repository(tiny_path("logits"), tmp_path / "r", TritonPlan(name=name))
    assert not (tmp_path / "r").exists()


def test_environments_that_say_nothing_are_refused(tiny_path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--env: is empty"):
        write_repository(tiny_path("logits"), tmp_path / "r", TritonPlan(name="m", environment=""))
    with pytest.raises(ExportError, match="runs no Python in the server"):
        write_repository(
            tiny_path("logits"), tmp_path / "r", TritonPlan(name="m", layout="plain", environment="/opt/x")
        )
    assert not (tmp_path / "r").exists()


def test_files_that_are_refused(tiny_path, tmp_path: Path) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"ftrt" + bytes(100))
    for path, said in (
        (engine, "is a TensorRT engine without its manifest"),
        (tiny_path("plain"), "was not made by `cfcam export`"),
        (tmp_path / "none.onnx", "no such file"),
    ):
        with pytest.raises(ModelFileError, match=said):
            write_repository(path, tmp_path / "r", TritonPlan(name="m"))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_repository(tiny_path("logits"), tmp_path / "file", TritonPlan(name="m"))


def test_default_names() -> None:
    assert default_name("a/dogs.cam.onnx") == "dogs"
    assert default_name("a/two dogs.int8.onnx") == "two-dogs.int8"
    assert default_name("a/dogs.sm86.engine") == "dogs.sm86"
    assert default_name(".cam.onnx") == "model"


def test_model_py_does_not_load_under_numpy_2(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("__version__ = '2.1.0'")
    (tmp_path / "model.py").write_text(MODEL_PY)
    done = subprocess.run([sys.executable, "-c", "import model"], cwd=tmp_path, capture_output=True, text=True)
    assert "RuntimeError: numpy 2.1.0 in this environment" in done.stderr
