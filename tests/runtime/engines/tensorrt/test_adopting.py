"""The manifest of an engine that somebody else's builder made of our graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cfcam.runtime.engines.tensorrt.cuda as cuda_module
import pytest
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import file_sha256, read_spec
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.engines.tensorrt.adopting import adopt_engine
from cfcam.runtime.errors import EngineError, ManifestError
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, fake_plan

PACKAGES = ["tensorrt", "tensorrt_rtx"]


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A machine with one GPU and both packages."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda_module, "_bindings", lambda: fake)
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, FakeTensorRt(name, fake))
    monkeypatch.setattr(packages, "_in_use", None)
    return fake


@pytest.fixture
def product(tiny_path: Callable[[str], Path], tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """A graph as ``cfcam build --onnx-only`` leaves it, and an engine that was built from `made_of`."""

    def make(backend: str = "tensorrt", made_of: str = "logits", **config: Any) -> tuple[Path, Path]:
        graph, engine = tmp_path / "net.onnx", tmp_path / "net.engine"
        graph.write_bytes(tiny_path("logits").read_bytes())
        engine.write_bytes(fake_plan(tiny_path(made_of)))
        Manifest(
            product=ProductRecord.of(graph),
            source=FileRecord.of(graph),
            backend=BackendRecord(name="onnxruntime", version="1.0", provider="cpu"),
            precision="float32",
            config={"backend": backend, **config},
            spec=read_spec(graph).to_dict(),
            gate={"passed": True, "ran_on": "net.onnx on cpu"},
            created="2026-11-24T12:00:00Z",
        ).write(graph)
        return engine, graph

    return make


@pytest.mark.parametrize("backend", PACKAGES)
def test_what_the_manifest_says(backend: str, product: Callable[..., tuple[Path, Path]], gpu: FakeCuda) -> None:
    engine, graph = product(backend, engine={"cuda_graph": True})
    manifest = adopt_engine(engine, graph)
    assert manifest == Manifest.read(engine)
    assert (manifest.product.file, manifest.product.sha256) == (engine.name, file_sha256(engine))
    assert manifest.graph == FileRecord.of(graph)
    assert manifest.backend == BackendRecord(name=backend, version="10.3.0")  # type: ignore[arg-type]
    assert manifest.engine_options.cuda_graph
    assert manifest.gate == {"passed": True, "ran_on": "net.onnx, not the engine"}
    found = manifest.target and (manifest.target.compute_capability, manifest.target.gpu)
    assert found == (("8.7", "Fake GPU") if backend == "tensorrt" else None)
    assert gpu.live == 0


@pytest.mark.parametrize(("compatibility", "gpu_name"), [("same_compute_capability", None), ("none", "Fake GPU")])
def test_an_engine_for_several_gpus(
    compatibility: str, gpu_name: str | None, product: Callable[..., tuple[Path, Path]]
) -> None:
    manifest = adopt_engine(*product(builder={"hardware_compatibility": compatibility}))
    assert manifest.target is not None
    assert (manifest.target.compute_capability, manifest.target.gpu) == ("8.7", gpu_name)


def test_what_is_not_adopted(product: Callable[..., tuple[Path, Path]]) -> None:
    engine, graph = product("onnx")
    with pytest.raises(ManifestError, match=r"net\.onnx: was built for the backend 'onnx', which needs no engine"):
        adopt_engine(engine, graph)
    engine, graph = product(made_of="softmax")
    with pytest.raises(EngineError, match=r"net\.engine: was not built from net\.onnx: it has no 'scores'"):
        adopt_engine(engine, graph)
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(ManifestError, match="is not the file that"):
        adopt_engine(engine, graph)
    Manifest.place(graph).unlink()
    with pytest.raises(ManifestError, match="has no manifest beside it: give the graph that `cfcam build --onnx-only`"):
        adopt_engine(engine, graph)
    assert not Manifest.place(engine).exists()
