"""The TensorRT backend on a stand-in for CUDA and TensorRT, whose API is compared with the real packages."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cfcam.runtime.engines.tensorrt.cuda as cuda_module
import fake_tensorrt
import numpy as np
import pytest
from cfcam.runtime import Explainer, open_engine
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord, Target
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.engines.tensorrt.build import build_engine
from cfcam.runtime.engines.tensorrt.cuda import find_gpu
from cfcam.runtime.engines.tensorrt.engine import TensorRtEngine
from cfcam.runtime.engines.tensorrt.packages import load_package
from cfcam.runtime.errors import CfcamError, EngineError, ManifestError, ModelFileError
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt, fake_plan
from tensorrt_required import require_tensorrt

PACKAGES = ["tensorrt", "tensorrt_rtx"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A machine with one GPU and both packages."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda_module, "_bindings", lambda: fake)
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, FakeTensorRt(name, fake))
    monkeypatch.setattr(packages, "_in_use", None)
    return fake


def product(model: Path, folder: Path, plan: bytes, package: str = "tensorrt", **options: Any) -> Path:
    """An engine with its manifest, as `cfcam build` leaves it."""
    path = folder / f"tiny.{package}.engine"
    path.write_bytes(plan)
    Manifest(
        product=ProductRecord.of(path),
        source=FileRecord.of(model),
        backend=BackendRecord(name=package, version=load_package(package).module.__version__),  # type: ignore[arg-type]
        target=Target(compute_capability="8.7"),
        precision="float32",
        engine=EngineOptions(**options).to_dict(),
        spec=read_spec(model).to_dict(),
        gate={"passed": False},
        created="2026-11-24T12:00:00Z",
    ).write(path)
    return path


def feed(n: int, seed: int = 0, target: int = -1) -> dict[str, np.ndarray]:
    image = np.random.default_rng([n, seed]).standard_normal((n, 3, 32, 48)).astype(np.float32)
    return {"image": image, "cam_target": np.full(n, target, np.int64)}


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.allclose(a[name], b[name], rtol=1e-6, atol=1e-7) for name in a)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("target", ["int64", "int32"])
def test_every_batch_is_as_the_reference(
    gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path, package: str, cuda_graph: bool, target: str
) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model, target=target), package, cuda_graph=cuda_graph)
    with open_engine(model, threads=1) as reference, open_engine(path) as engine:
        info = engine.describe()
        assert (info.backend, info.provider) == (f"{package} 10.3.0", package)
        assert (info.batch, info.min_batch, info.max_batch) == (None, 1, 4)
        assert (info.inputs, info.outputs) == (reference.describe().inputs, reference.describe().outputs)
        allocated = gpu.allocated
        for n in (1, 3, 4, 1, 4):
            for target_class in (-1, 2):
                one = feed(n, target=target_class)
                assert equal(engine.infer(one), reference.infer(one))
        assert list(engine.infer(feed(2), ["cam_class", "scores"])) == ["cam_class", "scores"]
        assert gpu.allocated == allocated, "memory is allocated once"
        assert gpu.launched == (11 if cuda_graph and package == "tensorrt" else 0)
        if package == "tensorrt_rtx":
            (config,) = load_package(package).module.engine._contexts
            assert config.cuda_graph_strategy.name == ("WHOLE_GRAPH_CAPTURE" if cuda_graph else "DISABLED")
    assert gpu.live == 0, "everything is freed"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("batch", [(1, 2, 2), (2, 2, 4), (3, 3, 3)])
def test_the_explainer_splits_and_fills_batches(
    tiny_path: Callable[[str], Path], tmp_path: Path, batch: tuple[int, int, int]
) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model, batch))
    with Explainer(model, threads=1) as plain, Explainer(path) as explainer:
        assert explainer.provider == "tensorrt"
        assert explainer.manifest is not None
        assert explainer.manifest.passed is False
        assert explainer.spec == plain.spec
        images = feed(5)["image"]
        assert np.allclose(explainer.maps(images), plain.maps(images), atol=1e-5)
        assert np.allclose(explainer.probabilities(images[:1]), plain.probabilities(images[:1]), atol=1e-6)
        assert explainer.warm_up(2, batch=3) > 0


def test_a_result_is_the_callers_and_threads_take_turns(
    gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_path("logits")
    feeds = [feed(n, seed) for seed in range(2) for n in (1, 2, 4)]
    for graphs in (False, True):
        with open_engine(product(model, tmp_path, fake_plan(model), cuda_graph=graphs)) as engine:
            alone = [engine.infer(one) for one in feeds]
            kept = [{name: value.copy() for name, value in one.items()} for one in alone]
            together: list[Any] = [None] * len(feeds)

            def work(i: int) -> None:
                for _ in range(8):
                    together[i] = engine.infer(feeds[i])  # noqa: B023 - joined below

            workers = [threading.Thread(target=work, args=(i,)) for i in range(len(feeds))]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            for first, copy, last in zip(alone, kept, together, strict=True):
                assert equal(first, copy)
                assert equal(first, last)
    assert gpu.live == 0


def test_more_shapes_than_graphs(gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model, (1, 1, 12)), cuda_graph=True)
    with open_engine(model, threads=1) as reference, open_engine(path) as engine:
        for n in (*range(1, 11), 9, 1):
            assert equal(engine.infer(feed(n)), reference.infer(feed(n)))
        assert gpu.launched == 9


@pytest.mark.usefixtures("gpu")
def test_what_an_engine_does_not_take(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model))
    engine = open_engine(path)
    good = feed(2)
    numbers = r"built for from \(1, 3, 32, 48\) to \(4, 3, 32, 48\) \(best \(2, 3, 32, 48\)\)"
    for shape in ((2, 3, 64, 48), (5, 3, 32, 48), (3, 32, 48)):
        with pytest.raises(EngineError, match=numbers) as caught:
            engine.infer({**good, "image": np.zeros(shape, np.float32)})
        assert str(shape) in str(caught.value)
    with pytest.raises(EngineError, match="input 'image' is complex64, expected float32"):
        engine.infer({**good, "image": good["image"].astype(np.complex64)})
    with pytest.raises(EngineError, match="expected also the inputs cam_target"):
        engine.infer({"image": good["image"]})
    with pytest.raises(EngineError, match=r"has no 'picture': its inputs are cam_target, image"):
        engine.infer({**good, "picture": good["image"]})
    with pytest.raises(EngineError, match=r"has no 'gradient': its outputs are cam_activations"):
        engine.infer(good, ["gradient"])
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.infer(good)


@pytest.mark.parametrize("package", PACKAGES)
def test_tensorrts_words_are_kept(
    gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path, package: str
) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model, broken="Cask convolution\nfailed"), package)
    with open_engine(path) as engine, pytest.raises(EngineError, match=r"10\.3\.0 failed: .*Cask convolution failed"):
        engine.infer(feed(1))
    with pytest.raises(EngineError, match=r"tiny\..*engine: .* 10\.3\.0 cannot load it: Magic tag does not match"):
        open_engine(product(model, tmp_path, b"no plan", package))
    assert gpu.live == 0


def test_a_gpu_that_is_full(
    gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_path("logits")
    monkeypatch.setattr(gpu, "_limit", 40_000)
    with pytest.raises(EngineError, match=r"engine: CUDA: cudaMalloc failed: cudaErrorMemoryAllocation: in other"):
        open_engine(product(model, tmp_path, fake_plan(model), cuda_graph=True))
    assert gpu.live == 0


def _refuses(error: Exception) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


def test_nothing_stays_taken_whatever_fails_while_opening(
    gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model), cuda_graph=True)
    engine, module = fake_tensorrt.ICudaEngine, load_package("tensorrt").module
    for owner, name, error, expected, words in (
        (module, "nptype", TypeError("Could not resolve"), EngineError, r"tiny\..*: '\w+' is \w+, a type that NumPy"),
        (engine, "create_execution_context", RuntimeError("no context"), RuntimeError, "no context"),
        (engine, "get_tensor_profile_shape", ValueError("no profile"), ValueError, "no profile"),
        (gpu, "cudaHostAlloc", MemoryError("full"), MemoryError, "full"),
        (Path, "read_bytes", PermissionError(13, "Permission denied"), ModelFileError, "Permission denied"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _refuses(error))
            with pytest.raises(expected, match=words):
                TensorRtEngine(path, "tensorrt", EngineOptions(cuda_graph=True))
        assert gpu.live == 0, name
    monkeypatch.setattr(engine, "create_execution_context", lambda *_: None)
    with pytest.raises(EngineError, match="cannot make an execution context"):
        open_engine(path)
    assert gpu.live == 0, "neither the scratch memory of CUDA graphs"


@pytest.mark.usefixtures("gpu")
def test_kernels_are_kept(tiny_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, cache = tiny_path("logits"), tmp_path / "cache"
    path = product(model, tmp_path, fake_plan(model), "tensorrt_rtx", cache=str(cache))
    for opened in (1, 2):
        open_engine(path).close()
        assert (cache / f"{path.name}.kernels").read_bytes() == b"k" * opened
    monkeypatch.setattr(packages, "_in_use", None)
    with pytest.raises(EngineError, match="cache: an engine of tensorrt compiles nothing"):
        open_engine(product(model, tmp_path, fake_plan(model), cache=str(cache)))


def test_what_a_manifest_refuses_is_not_opened(
    gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model))
    with pytest.raises(EngineError, match="is an engine of tensorrt and runs on nothing else, got the provider 'cpu'"):
        open_engine(path, "cpu")
    open_engine(path, "tensorrt").close()
    with pytest.raises(EngineError, match="device_id 3: this machine has 1 GPU"):
        open_engine(path, options={"device_id": 3})
    monkeypatch.setattr(gpu, "cudaGetDeviceProperties", lambda _: (cuda_module._bindings().cudaError_t(0), _Orin))
    with pytest.raises(ManifestError, match=r"for compute capability 8\.7, but the GPU here \(Other\) has 9\.0"):
        Explainer(path)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ManifestError, match="is not the file that"):
        Explainer(path)
    Manifest.place(path).unlink()
    for opened in (open_engine, Explainer):
        with pytest.raises(ModelFileError, match=r"is a TensorRT engine, .*\.manifest\.json beside it: copy that too"):
            opened(path)


class _Orin:
    name, major, minor = b"Other", 9, 0


def test_a_real_engine_without_a_gpu(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    """What a machine without a GPU says to an engine that TensorRT for RTX really built."""
    require_tensorrt()
    try:
        find_gpu()
    except CfcamError:
        pass
    else:
        pytest.skip("there is a GPU here: see tests/gpu")
    model = tiny_path("logits")
    plan = build_engine(model, compute_capability="8.6", package="tensorrt_rtx")
    path = product(model, tmp_path, plan, "tensorrt_rtx")
    with pytest.raises(EngineError, match=r"tiny\.tensorrt_rtx\.engine: no NVIDIA GPU can be used here \(") as caught:
        Explainer(path)
    assert "\n" not in str(caught.value)
    Manifest.place(path).unlink()
    with pytest.raises(ModelFileError, match="is a TensorRT engine"):
        Explainer(path)


def test_an_engine_runs_in_later_versions_where_it_was_built_for_them(
    gpu: FakeCuda, tiny_path: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_path("logits")
    path = product(model, tmp_path, fake_plan(model))
    open_engine(path).close()
    module = load_package().module
    assert not module.runtime.engine_host_code_allowed, "code inside of an engine runs only where it was asked for"
    module.__version__ = "11.0.0"
    with pytest.raises(ManifestError, match=r"built with tensorrt 10\.3\.0 and runs with no other version"):
        open_engine(path)
    manifest = Manifest.read(path)
    assert manifest is not None
    replace(manifest, config={"builder": {"version_compatible": True}}).write(path)
    open_engine(path).close()
    assert module.runtime.engine_host_code_allowed
    module.__version__ = "9.3.0"
    with pytest.raises(ManifestError, match="runs with no earlier version, but this machine has 9"):
        open_engine(path)


def test_what_the_stand_in_offers_exists_in_tensorrt() -> None:
    """The backend runs on the stand-in, so it calls nothing that is not in the real package."""
    require_tensorrt()
    real = load_package("tensorrt_rtx").module
    fake = FakeTensorRt("tensorrt_rtx", FakeCuda())
    for name in vars(fake):
        if name not in ("engine", "runtime"):
            assert hasattr(real, name), name
    classes = [value for _, value in inspect.getmembers(fake_tensorrt, inspect.isclass) if value.__name__[0] == "I"]
    assert len(classes) == 5
    for cls in (*classes, fake.Runtime):
        members = {name for name in vars(cls) if not name.startswith("_")}
        assert members <= set(dir(getattr(real, cls.__name__))), cls
    for name in ("TensorIOMode", "TensorLocation", "ExecutionContextAllocationStrategy", "CudaGraphStrategy"):
        assert set(getattr(fake, name).__members__) <= set(getattr(real, name).__members__)
    assert isinstance(inspect.getattr_static(real.IRuntimeConfig, "cuda_graph_strategy"), property)
    assert real.nptype(real.DataType.INT64) is np.int64
