"""On a machine with a GPU the engine itself is judged. CUDA and TensorRT are stand-ins here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cfcam.runtime.engines.tensorrt.cuda as cuda_module
import pytest
from cfcam.calibration.build.config_files import parse_config
from cfcam.calibration.build.pipeline import build
from cfcam.cli import main
from cfcam.runtime import Explainer
from cfcam.runtime.contract.manifest import Manifest
from cfcam.runtime.engines.tensorrt import build as tensorrt_build
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.engines.tensorrt.cuda import find_gpu
from cfcam.runtime.errors import EngineError
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, fake_plan
from small_photos import make_photos


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU, `tensorrt`, and a builder that makes plans for the stand-in."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda_module, "_bindings", lambda: fake)
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt("tensorrt", fake))

    def build_engine(path: Path, *, batch: tuple[int, int, int], compute_capability: str | None, **_: Any) -> bytes:
        assert compute_capability is None  # `tensorrt` builds for this machine's GPU
        kept = Path(path).parents[1] / "engine.onnx"  # where it outlives the staging folder
        kept.write_bytes(Path(path).read_bytes())
        return fake_plan(kept, batch)

    monkeypatch.setattr(tensorrt_build, "build_engine", build_engine)
    monkeypatch.setattr(packages, "_in_use", None)


def config(compute_capability: str, more: str = "", **batch: int) -> Any:
    return parse_config(
        f"backend: tensorrt\nbuilder: {{compute_capability: [{compute_capability}]{more}}}\nbatch: {batch or '{}'}",
        "f.yaml",
    )


def test_the_engine_itself_is_judged(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    here = find_gpu(0)
    photos = make_photos(tmp_path / "photos", 20)
    report = build(tiny_path("logits"), "gpu", config(here.compute_capability, max=4), tmp_path / "out", photos)
    assert report.passed
    assert report.ran_on == "logits.gpu.engine on tensorrt"
    assert report.notes == ()
    (product,) = report.products
    manifest = Manifest.read(product)
    assert manifest is not None
    assert manifest.target is not None
    assert (manifest.target.compute_capability, manifest.target.gpu) == (here.compute_capability, here.name)


@pytest.mark.parametrize(
    ("compatibility", "target"),
    [("none", ("8.7", "Orin")), ("same_compute_capability", ("8.7", None)), ("ampere_plus", None)],
)
def test_what_a_compatible_engine_runs_on(
    tiny_path: Callable[[str], Path], tmp_path: Path, compatibility: str, target: tuple[str, str | None] | None
) -> None:
    """Built here, and by trtexec from the graph."""
    here = find_gpu(0)
    wanted = None if target is None else (here.compute_capability, target[1] and here.name)
    asked = config(here.compute_capability, f", hardware_compatibility: {compatibility}")
    (product,) = build(tiny_path("logits"), "gpu", asked, tmp_path / "a", allow_failing=True).products
    source = build(tiny_path("logits"), "gpu", asked, tmp_path / "b", allow_failing=True, onnx_only=True).products[0]
    adopted = tmp_path / "b" / "logits.gpu.engine"
    adopted.write_bytes(fake_plan(source, (1, 1, 1)))
    assert main(["adopt", str(adopted), "--graph", str(source)]) == 0
    for engine in (product, adopted):
        manifest = Manifest.read(engine)
        assert manifest is not None
        assert manifest.config["builder"]["hardware_compatibility"] == compatibility
        found = manifest.target
        assert (None if found is None else (found.compute_capability, found.gpu)) == wanted


def test_an_engine_that_opens_and_cannot_run_is_no_product(
    tiny_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph would pass: it is the engine that is handed over."""
    monkeypatch.setattr(
        tensorrt_build, "build_engine", lambda *_, **__: fake_plan(tiny_path("logits"), (1, 1, 4), broken="no kernel")
    )
    photos = make_photos(tmp_path / "photos", 2)
    with pytest.raises(EngineError, match=r"could explain none of 2 photos.*no kernel"):
        build(tiny_path("logits"), "gpu", config(find_gpu(0).compute_capability, max=4), tmp_path / "out", photos)
    assert not list((tmp_path / "out").iterdir())


def test_another_gpu_is_refused_before_any_work(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    with pytest.raises(EngineError, match=r"is for compute capability 9\.9, but the GPU here .*give --onnx-only"):
        build(tiny_path("logits"), "gpu", config("9.9"), tmp_path / "out", photos)
    assert not (tmp_path / "out").exists()


def test_an_engine_that_trtexec_built_is_adopted(
    tiny_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", 20)
    built = build(tiny_path("logits"), "orin", config("8.7"), tmp_path, photos, onnx_only=True)
    (graph,) = built.products
    engine = tmp_path / "logits.orin.engine"
    assert f"cfcam adopt {engine.name} --graph {graph.name}" in (tmp_path / "logits.orin.trtexec.sh").read_text()
    engine.write_bytes(fake_plan(graph, (1, 1, 1)))
    assert main(["adopt", str(engine), "--graph", str(graph)]) == 0
    assert capsys.readouterr().out.startswith(f"{engine}.manifest.json: tensorrt ")
    manifest = Manifest.read(engine)
    assert manifest is not None
    assert manifest.target is not None
    assert manifest.target.gpu == find_gpu(0).name
    assert manifest.gate is not None
    assert manifest.gate["ran_on"] == "logits.orin.onnx, not the engine"
    with Explainer(engine) as explainer, Explainer(graph) as reference:
        found, wanted = (one.explain(photos[0]) for one in (explainer, reference))
    assert found.map == pytest.approx(wanted.map, abs=1e-5)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("logits", "has no manifest beside it"),
        ("cpu", "backend 'onnx', which needs no engine"),
        ("other", "no 'scores'"),
    ],
)
def test_what_is_not_adopted(
    tiny_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], graph: str, words: str
) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(fake_plan(tiny_path("softmax"), (1, 1, 1)))
    source = tiny_path("logits")
    if graph != "logits":
        made = parse_config("backend: onnx", "f.yaml") if graph == "cpu" else config("8.7")
        (source,) = build(source, "g", made, tmp_path, allow_failing=True, onnx_only=True).products
    assert main(["adopt", str(engine), "--graph", str(source)]) == 2
    assert words in capsys.readouterr().err
    assert not Manifest.place(engine).exists()
