"""Commands on what `cfcam build` made: the manifest says what runs it, where the command line does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cfcam.cli import main
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord, Target
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt import cuda, packages
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, fake_plan
from PIL import Image


@pytest.fixture
def engine(tiny_path, tmp_path, monkeypatch):
    """A TensorRT engine with its manifest, on a machine that has the GPU."""
    fake = FakeCuda()
    module = FakeTensorRt("tensorrt", fake)
    monkeypatch.setattr(cuda, "_bindings", lambda: fake)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(packages, "_in_use", None)
    model = tiny_path("logits")
    path = tmp_path / "tiny.engine"
    path.write_bytes(fake_plan(model))
    Manifest(
        product=ProductRecord.of(path),
        source=FileRecord.of(model),
        backend=BackendRecord(name="tensorrt", version=module.__version__),
        target=Target(compute_capability="8.7"),
        precision="float32",
        spec=read_spec(model).to_dict(),
        created="2026-11-24T12:00:00Z",
    ).write(path)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return str(folder)


def test_an_engine_is_measured_as_its_model_is(engine, tiny_path, photos, capsys):
    tables = []
    for model in (str(engine), str(tiny_path("logits"))):
        command = ["--images", photos, "--methods", "gradcam", "--baselines", "none", "--journal", "none", "--json"]
        assert main(["evaluate", model, *command]) == 0
        document = json.loads(capsys.readouterr().out)
        tables.append((document["table"]["cells"]["gradcam"], document["model"]["provider"]))
    (found, provider), (expected, _) = tables
    assert provider == "tensorrt"
    assert {name: cell["mean"] for name, cell in found.items()} == pytest.approx(
        {name: cell["mean"] for name, cell in expected.items()}, abs=1e-4
    )
    assert main(["parts", str(engine), photos, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 3


def test_what_needs_the_graph_says_so_of_an_engine(engine, photos, tmp_path, capsys):
    """Before any work: a search for settings takes minutes, and could not write them."""
    for command in (
        ["tune", str(engine), "--images", photos, "-o", str(tmp_path / "tuned.cam.onnx")],
        ["check", str(engine)],
        ["build", str(engine), "--config", "cpu", "--images", photos, "-o", str(tmp_path / "out")],
        ["layers", str(engine)],
    ):
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert f"{engine}: is a TensorRT engine, an ONNX file was expected" in err
    assert not Path(tmp_path / "tuned.cam.onnx").exists()


def test_an_engine_is_audited_against_its_float32_file(engine, tiny_path, photos, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    command = [
        "audit",
        "run",
        str(engine),
        "--images",
        photos,
        "--method",
        "gradcam",
        "-o",
        str(tmp_path / "a"),
        "--json",
    ]
    assert main([*command, "--against", str(tiny_path("logits"))]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["provider"] == "tensorrt"
    assert document["against"]["verdict"] == "passed"
    command[command.index(str(tmp_path / "a"))] = str(tmp_path / "b")
    assert main(command) == 0
    assert (
        "its build has compared it with nothing: nothing shows"
        in json.loads(capsys.readouterr().out)["against"]["text"]
    )
