"""Files of a build, and what their manifests say."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

pytest.importorskip("pydantic")

import cfcam.runtime.engines.tensorrt.cuda as cuda_module
from cfcam.calibration.build.config_files import parse_config
from cfcam.calibration.build.job import Job, make_job
from cfcam.calibration.build.photos import CalibrationPhotos
from cfcam.calibration.build.products import Product, finish_graph, graph_product, make_engine, write_command
from cfcam.calibration.build.tensor_cache import TensorCache
from cfcam.runtime.contract.manifest import BackendRecord, CalibrationRecord, FileRecord, Manifest, Target
from cfcam.runtime.contract.modelfile import file_sha256, read_spec
from cfcam.runtime.engines.tensorrt import build as tensorrt_build
from cfcam.runtime.engines.tensorrt import packages
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt


@pytest.fixture
def started(tiny_path: Callable[[str], Path], tmp_path: Path) -> Callable[..., tuple[Job, Path]]:
    """A job of a configuration, and its graph in the staging folder."""

    def start(text: str, **options: Any) -> tuple[Job, Path]:
        job = make_job(tiny_path("logits"), "mine", parse_config(text, "f.yaml"), tmp_path / "out", **options)
        graph = tmp_path / job.graph_name
        graph.write_bytes(tiny_path("logits").read_bytes())
        return job, graph

    return start


def test_the_manifest_of_a_graph(started: Callable[..., tuple[Job, Path]], tmp_path: Path) -> None:
    job, graph = started("backend: onnxruntime\nengine: {threads: 2}\nprecision: float16")
    product = graph_product(job, graph)
    assert product == Product(graph, BackendRecord(name="onnxruntime", version=onnxruntime.__version__, provider="cpu"))
    photos = CalibrationPhotos(((graph, "ab"), (graph, "cd")), 0, TensorCache(tmp_path / "cache", job.spec.input))
    manifest = product.write_manifest(job, photos, {"passed": True})
    assert manifest == Manifest.read(graph)
    assert (manifest.product.file, manifest.product.sha256) == (graph.name, file_sha256(graph))
    assert manifest.source == FileRecord.of(job.source)
    assert (manifest.graph, manifest.target) == (None, None)
    assert manifest.precision == "float32", "what the file says, not what was asked for"
    assert (manifest.config["name"], manifest.config["precision"]) == ("mine", "float16")
    assert manifest.engine_options.threads == 2
    assert manifest.cam_spec == job.spec
    assert manifest.calibration == CalibrationRecord(sha256=photos.sha256, count=2, calibrator="means of channels")
    assert manifest.gate == {"passed": True}
    assert {"cfcam", "numpy", "onnx"} <= set(manifest.tools)
    assert manifest.created.endswith("+00:00")


def test_how_ranges_were_learnt_is_said(started: Callable[..., tuple[Job, Path]], tmp_path: Path) -> None:
    job, graph = started("backend: onnxruntime\nprecision: int8\nquantisation: {calibrator: entropy}")
    photos = CalibrationPhotos(((graph, "ab"),), 0, TensorCache(tmp_path / "cache", job.spec.input))
    manifest = graph_product(job, graph).write_manifest(job, photos, None)
    assert manifest.calibration is not None
    assert manifest.calibration.calibrator == "entropy"
    assert manifest.passed is None


def test_a_graph_for_another_machine_keeps_the_engines_options_to_itself(
    started: Callable[..., tuple[Job, Path]],
) -> None:
    job, graph = started("backend: tensorrt\nengine: {cuda_graph: true}", onnx_only=True)
    manifest = graph_product(job, graph).write_manifest(job, None, None)
    data = manifest.to_dict()
    assert data["trtexec"].startswith("trtexec --onnx=logits.mine.onnx --saveEngine=logits.mine.engine ")
    assert manifest.engine_options.cuda_graph is False, "ONNX Runtime has none"
    assert data["config"]["engine"]["cuda_graph"] is True


def test_the_configurations_method_goes_into_the_graph(started: Callable[..., tuple[Job, Path]]) -> None:
    job, graph = started("backend: onnx")
    before = graph.read_bytes()
    finish_graph(job, graph)
    assert graph.read_bytes() == before
    job, graph = started("backend: onnx\nmethod: {name: cfcam, settings: {seed: 3}}")
    finish_graph(job, graph)
    method = read_spec(graph).method
    assert (method.name, method.settings) == ("cfcam", {"seed": 3})


def test_the_command_is_a_script_that_can_be_run(started: Callable[..., tuple[Job, Path]]) -> None:
    job, graph = started("backend: tensorrt", onnx_only=True)
    write_command(job, graph)
    script = graph.with_name("logits.mine.trtexec.sh")
    assert os.access(script, os.X_OK)
    assert "--onnx=logits.mine.onnx" in script.read_text()


@pytest.mark.parametrize(
    ("backend", "wanted", "known", "ahead", "target"),
    [
        ("tensorrt_rtx", "[8.6]", ("8.6", "12.0"), "8.6", Target(compute_capability="8.6")),
        ("tensorrt_rtx", "[]", ("8.6", "12.0"), None, None),  # for any GPU from 8.0 on
        ("tensorrt", "[8.7]", (), None, Target(compute_capability="8.7", gpu="Fake GPU")),
    ],
)
def test_an_engine_and_what_it_runs_on(
    backend: str,
    wanted: str,
    known: tuple[str, ...],
    ahead: str | None,
    target: Target | None,
    started: Callable[..., tuple[Job, Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake, asked = FakeCuda(), {}
    monkeypatch.setattr(cuda_module, "_bindings", lambda: fake)
    monkeypatch.setitem(sys.modules, backend, FakeTensorRt(backend, fake))
    monkeypatch.setattr(packages, "_in_use", None)
    monkeypatch.setattr(tensorrt_build, "compute_capabilities", lambda _: known)
    monkeypatch.setattr(tensorrt_build, "build_engine", lambda path, **options: asked.update(options) or b"a plan")
    job, graph = started(f"backend: {backend}\nbuilder: {{compute_capability: {wanted}}}\nbatch: {{max: 4}}")
    product = make_engine(job, graph, job.targets[0], None)
    assert product.path == graph.with_name("logits.mine.engine")
    assert product.path.read_bytes() == b"a plan"
    assert (product.backend.name, product.backend.version) == (backend, "10.3.0")
    assert (product.target, product.graph) == (target, FileRecord.of(graph))
    assert (asked["batch"], asked["compute_capability"], asked["package"]) == ((1, 1, 4), ahead, backend)
    assert asked["options"] == job.config.builder_options
    manifest = product.write_manifest(job, None, None)
    assert manifest.is_engine
    assert "trtexec" not in manifest.to_dict()
