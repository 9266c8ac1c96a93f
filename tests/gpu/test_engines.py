"""Every backend on the GPU against ONNX Runtime's CPU provider: the same numbers, from every thread, and how fast."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfcam.runtime import EngineOptions, Explainer, open_engine
from cfcam.runtime.contract.manifest import FileRecord, Manifest, Target
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt.cuda import find_gpu
from cfcam.runtime.errors import EngineError, ManifestError
from shared_data import shared_path

sys.path.insert(0, str(Path(__file__).parent))

from backends import BACKENDS, PROFILE, open_on, prepared

#: Of the largest absolute value of an output. TensorRT computes float32 convolutions in TensorFloat-32.
_CLOSE = {"provider:cuda": 1e-4, "provider:tensorrt": 2e-2, "provider:rtx": 2e-2}
_CLOSE |= {"engine:tensorrt": 2e-2, "engine:tensorrt_rtx": 2e-2}

every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines are built into it once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="session")
def mobilenet(folder: Path) -> Path:
    """A real classifier, explained by the ONNX route, which needs no PyTorch."""
    from cfcam.cli import main

    path = folder / "mobilenet_v1.cam.onnx"
    source = shared_path("models/mobilenet_v1_0.5_160.onnx")
    assert main(["export", "--onnx", str(source), "--preset", "tf", "--label-offset", "1", "-o", str(path)]) == 0
    return path


@pytest.fixture(params=["tiny", "mobilenet"])
def model(request: pytest.FixtureRequest, tiny_path: Callable[[str], Path]) -> Path:
    return tiny_path("logits") if request.param == "tiny" else request.getfixturevalue("mobilenet")


def feed(model: Path, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    spec = read_spec(model)
    image = np.random.default_rng([n, seed]).standard_normal(spec.input.shape(n)).astype(np.float32)
    return {spec.input.name: image, spec.target: np.full(n, 1 + seed, np.int64)}


def sizes(backend: str, cuda_graph: bool, several: tuple[int, ...]) -> tuple[int, ...]:
    """Batches to run. ONNX Runtime's TensorRT provider records one CUDA graph, whatever the shapes."""
    return (2,) * len(several) if cuda_graph and backend == "provider:tensorrt" else several


def apart(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest difference of any output, as a share of its largest value."""
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k] - b[k]).max() / max(np.abs(b[k]).max(), 1e-12)) for k in b)


@every_backend
@pytest.mark.parametrize("cuda_graph", [False, True], ids=["plain", "graph"])
def test_the_numbers_are_the_references(
    backend: str, model: Path, folder: Path, cuda_graph: bool, summary_line: Callable[[str], None]
) -> None:
    worst = 0.0
    with open_engine(model) as reference, open_on(backend, model, folder, cuda_graph=cuda_graph) as engine:
        assert engine.describe().provider == backend.partition(":")[2]
        # Twice in a row: the second run of a shape may be a replay.
        for n in sizes(backend, cuda_graph, (1, PROFILE[2], 1, 3, 3)):
            for seed in range(2):
                one = feed(model, n, seed)
                worst = max(worst, apart(engine.infer(one), reference.infer(one)))
    summary_line(f"{backend}, cuda_graph={cuda_graph}, {model.name}: largest difference {worst:.1e}")
    assert worst <= _CLOSE[backend]


@every_backend
def test_graph_or_not_is_the_same(backend: str, model: Path, folder: Path) -> None:
    one = feed(model, 2)
    with open_on(backend, model, folder) as engine:
        plain = engine.infer(one)
    with open_on(backend, model, folder, cuda_graph=True) as engine:
        for _ in range(5):
            assert apart(engine.infer(one), plain) <= 1e-5


@every_backend
@pytest.mark.parametrize("cuda_graph", [False, True], ids=["plain", "graph"])
def test_threads_share_an_engine_and_keep_their_results(
    backend: str, tiny_path: Callable[[str], Path], folder: Path, cuda_graph: bool
) -> None:
    model = tiny_path("logits")
    feeds = [feed(model, n, i % 2) for i, n in enumerate(sizes(backend, cuda_graph, (1, 2, 3, 4, 1, 2)))]
    with open_on(backend, model, folder, cuda_graph=cuda_graph) as engine:
        alone = [engine.infer(one) for one in feeds]
        kept = [{name: value.copy() for name, value in one.items()} for one in alone]
        together: list[list[Any]] = [[] for _ in feeds]

        def work(i: int) -> None:
            for _ in range(20):
                together[i].append(engine.infer(feeds[i]))

        workers = [threading.Thread(target=work, args=(i,)) for i in range(len(feeds))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for first, copy, later in zip(alone, kept, together, strict=True):
        assert apart(first, copy) == 0
        assert len(later) == 20
        assert max(apart(one, copy) for one in later) <= 1e-5


@every_backend
def test_explanations_pass_the_gate(
    backend: str, mobilenet: Path, folder: Path, summary_line: Callable[[str], None]
) -> None:
    verify = pytest.importorskip("cfcam.calibration.verify").verify
    photos = sorted(shared_path("data/photos").glob("*.jpg"))
    path, options = prepared(backend, mobilenet, folder, EngineOptions())
    with Explainer(path, options=options) as explainer, Explainer(mobilenet) as reference:
        report = verify(explainer, reference, photos, pictures=0)
    summary_line(f"gate of {backend} on {len(photos)} photos: {'passed' if report else report.failures}")
    assert report, report.failures


@pytest.mark.parametrize("package", ["tensorrt", "tensorrt_rtx"])
def test_an_engine_refuses_what_it_was_not_built_for(
    package: str, tiny_path: Callable[[str], Path], folder: Path
) -> None:
    model = tiny_path("logits")
    path, _ = prepared(f"engine:{package}", model, folder, EngineOptions())
    with open_engine(path) as engine, pytest.raises(EngineError, match=r"the engine was built for from \(1, 3"):
        engine.infer(feed(model, PROFILE[2] + 1))
    manifest = Manifest.read(path)
    assert manifest is not None
    replace(manifest, target=Target(compute_capability="7.0")).write(path)
    with pytest.raises(ManifestError, match=r"was built for compute capability 7\.0, but the GPU here"):
        open_engine(path)


@pytest.mark.parametrize("package", ["tensorrt", "tensorrt_rtx"])
def test_layerwise_runs_the_graph_again_with_its_values_marked(
    package: str, mobilenet: Path, folder: Path, summary_line: Callable[[str], None]
) -> None:
    layerwise = pytest.importorskip("cfcam.calibration.verify.layerwise")
    pytest.importorskip("polygraphy")
    path, _ = prepared(f"engine:{package}", mobilenet, folder, EngineOptions())
    manifest = Manifest.read(path)
    assert manifest is not None
    graph = path.with_name(mobilenet.name)
    graph.write_bytes(mobilenet.read_bytes())
    replace(manifest, graph=FileRecord.of(graph)).write(path)
    photos = sorted(shared_path("data/photos").glob("*.jpg"))
    report = layerwise.compare_layerwise(path, mobilenet, photos)
    first = report.jumps[0]
    summary_line(
        f"{package}: {report.compared} of {report.values} values, {first.node} {first.before} -> {first.after}"
    )
    assert report.compared > 50
    assert "built from its graph" in report.note
    assert first.after < 0.05, "float32, with TensorFloat-32 in convolutions"


@every_backend
@pytest.mark.parametrize("cuda_graph", [False, True], ids=["plain", "graph"])
def test_latency(
    backend: str, mobilenet: Path, folder: Path, cuda_graph: bool, summary_line: Callable[[str], None]
) -> None:
    """Figures, not a judgement: transfers included, from host array to host array."""
    one = feed(mobilenet, 1)
    with open_on(backend, mobilenet, folder, cuda_graph=cuda_graph) as engine:
        for _ in range(50):
            engine.infer(one)
        times = []
        for _ in range(500):
            started = time.perf_counter()
            engine.infer(one)
            times.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(times, [50, 99])
    name = find_gpu().name
    summary_line(f"{name}: {backend}, cuda_graph={cuda_graph}: p50 {p50:.3f} ms, p99 {p99:.3f} ms, batch 1, float32")
    assert 0 < p50 <= p99
