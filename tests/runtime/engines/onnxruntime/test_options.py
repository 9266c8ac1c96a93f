"""Engine options: what is taken, what reaches ONNX Runtime, and I/O binding on the CPU."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cfcam.runtime import Explainer, open_engine
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.onnxruntime.binding import BoundSession
from cfcam.runtime.engines.onnxruntime.options import graphs_of, provider_list, session_options
from cfcam.runtime.engines.options import PROVIDERS, EngineOptions
from cfcam.runtime.errors import EngineError, ManifestError, ModelFileError

_CUDA, _TENSORRT, _RTX, _CPU = (PROVIDERS[name] for name in ("cuda", "tensorrt", "rtx", "cpu"))


def feed(n: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    image = np.random.default_rng([n, seed]).standard_normal((n, 3, 32, 48)).astype(np.float32)
    return {"image": image, "cam_target": np.full(n, -1, np.int32)}


def test_there_and_back() -> None:
    options = EngineOptions(
        provider="rtx", threads=2, session={"a": False, "b": 3}, provider_options={"c": True}, cache="x"
    )
    assert (options.session, options.provider_options) == ({"a": "0", "b": "3"}, {"c": "1"})
    assert EngineOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    assert options.but(provider="cpu", threads=None, allow_fallback=False).provider == "cpu"
    assert options.but(threads=None).threads == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"providr": "cpu"}, r"unknown key 'providr': did you mean 'provider'\?"),
        ({"zzz": 1}, "unknown key 'zzz': expected one of provider, allow_fallback, threads"),
        ({"provider": "gpu"}, "unknown provider 'gpu': expected one of cpu, cuda"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"threads": "two"}, "engine options threads: expected int, got 'two'"),
        ({"device_id": -1}, "device_id: expected 0 or more"),
        ({"cuda_graph": 1}, "cuda_graph: expected bool, got 1"),
        ({"graph_optimization": "most"}, "graph_optimization: expected one of 'none', 'basic'"),
        ({"session": {"a": None}}, r"session\.a: expected text, a number or a boolean, got None"),
        ({"session": "a"}, "session: expected an object"),
    ],
)
def test_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        EngineOptions.from_dict(data)


def test_what_a_provider_is_told() -> None:
    everywhere = [_TENSORRT, _RTX, _CUDA, _CPU]
    asked = EngineOptions(cache="kept", cuda_graph=True, device_id=1, provider_options={"trt_max_workspace_size": 9})
    assert provider_list(_TENSORRT, asked, everywhere) == [
        (
            _TENSORRT,
            {
                "device_id": "1",
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": "kept",
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": "kept",
                "trt_cuda_graph_enable": "1",
                "trt_max_workspace_size": "9",
            },
        ),
        (_CUDA, {"device_id": "1"}),
        (_CPU, {}),
    ]
    rtx = EngineOptions(cache="kept", cuda_graph=True)
    assert provider_list(_RTX, rtx, [_RTX, _CPU]) == [
        (_RTX, {"device_id": "0", "nv_runtime_cache_path": "kept", "enable_cuda_graph": "1"}),
        (_CPU, {}),
    ]
    assert provider_list(_CPU, EngineOptions(), everywhere) == [(_CPU, {})]
    for options, words in ((EngineOptions(cache="x"), "cache: the provider 'cpu'"), (rtx, "cache")):
        with pytest.raises(EngineError, match=words):
            provider_list(_CPU, options, everywhere)
    with pytest.raises(EngineError, match="cuda_graph: the provider 'cpu' has no CUDA graphs"):
        provider_list(_CPU, EngineOptions(cuda_graph=True), everywhere)


def test_what_a_session_is_told() -> None:
    asked = EngineOptions(threads=3, graph_optimization="basic", session={"session.intra_op.allow_spinning": False})
    made = session_options(onnxruntime, asked)
    assert made.intra_op_num_threads == 3
    assert made.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert made.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_every_level_computes_the_same(tiny_path: Callable[[str], Path], level: Any) -> None:
    path = tiny_path("logits")
    with open_engine(path, threads=1) as reference, open_engine(path, options={"graph_optimization": level}) as engine:
        a, b = reference.infer(feed()), engine.infer(feed())
        assert all(np.allclose(a[name], b[name], rtol=1e-5, atol=1e-6) for name in a)


def test_bound_results_are_the_callers(tiny_path: Callable[[str], Path]) -> None:
    """More kinds of call than there are buffers for, from several threads, each result held to the end."""
    path = tiny_path("logits")
    feeds = [feed(n, seed) for seed in range(2) for n in range(1, 11)]
    with open_engine(path, threads=1) as reference, open_engine(path, options=EngineOptions(io_binding=True)) as engine:
        wanted = [reference.infer(one) for one in feeds]
        held: list[list[Any]] = [[None] * 3 for _ in feeds]

        def work(start: int) -> None:
            for turn in range(3):
                for i in range(start, len(feeds), 4):
                    held[i][turn] = engine.infer(feeds[i])

        workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for want, got in zip(wanted, held, strict=True):
            assert all(np.array_equal(one[name], want[name]) for one in got for name in want)
        some = engine.infer(feeds[0], ["cam_class", "scores"])
        assert list(some) == ["cam_class", "scores"]
        with pytest.raises(EngineError, match=r"onnxruntime .* failed: .*(Got: 5|invalid dimensions)"):
            engine.infer({**feeds[0], "image": np.zeros((1, 3, 5, 5), np.float32)})
    with pytest.raises(EngineError, match="closed"):
        engine.infer(feeds[0])


@pytest.mark.parametrize("graphs", ["one", "many"])
def test_cuda_graphs_are_run_by_one_thread(tiny_path: Callable[[str], Path], graphs: Any) -> None:
    """On the CPU, where the option that numbers graphs is ignored: one thread, and one graph for one kind of call."""
    session = onnxruntime.InferenceSession(str(tiny_path("logits")), providers=[_CPU])
    runs: list[tuple[int, str]] = []

    class Watched:
        def run(self, names: Any, values: Any, options: Any) -> Any:
            runs.append(
                (threading.get_ident(), options.get_run_config_entry("gpu_graph_id") if graphs == "many" else "")
            )
            return session.run(names, values, options)

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            runs.append(
                (threading.get_ident(), options.get_run_config_entry("gpu_graph_id") if graphs == "many" else "")
            )
            session.run_with_iobinding(binding, options)

        def io_binding(self) -> Any:
            return session.io_binding()

    bound = BoundSession(onnxruntime, Watched(), "cpu", 0, graphs)
    feeds = [{**feed(n, seed), "cam_target": np.full(n, -1)} for n, seed in ((2, 0), (2, 1), (3, 0), (2, 0))]
    for one in feeds:
        if graphs == "one" and len(one["image"]) == 3:
            with pytest.raises(
                EngineError, match=r"records one graph, of .*\(2, 3, 32, 48\).* cannot run .*\(3, 3, 32"
            ):
                bound.run(["scores"], one)
            continue
        assert np.array_equal(bound.run(["scores"], one)[0], np.asarray(session.run(["scores"], one)[0]))
    assert len({thread for thread, _ in runs}) == 1
    assert runs[0][0] != threading.get_ident()
    if graphs == "many":
        assert [number for _, number in runs] == ["-1", "1", "-1", "1"]
    bound.close()


def test_how_many_graphs() -> None:
    assert [graphs_of(name, "1.20.0") for name in (_CUDA, _RTX, _TENSORRT)] == ["many", "many", "one"]
    assert graphs_of(_CUDA, "1.17.1") == "one"


def test_a_provider_that_raises_is_an_error_or_the_cpu(
    tiny_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = onnxruntime.InferenceSession

    def session(path: str, options: Any, providers: Any, **more: Any) -> Any:
        assert more == {"enable_fallback": 0}, "its own fallback prints to stdout"
        if providers[0][0] == _CUDA:
            raise RuntimeError("libcudnn.so.9: cannot open\nshared object file")
        return real(path, options, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [_CUDA, _CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    path = tiny_path("logits")
    with pytest.raises(EngineError, match=r"cannot load it: libcudnn\.so\.9: cannot open shared object file"):
        open_engine(path, "cuda")
    asked = EngineOptions(provider="cuda", allow_fallback=True, cuda_graph=True, provider_options={"x": 1})
    with open_engine(path, options=asked) as engine:
        assert engine.describe().provider == "cpu"
        assert engine.infer(feed())["scores"].shape == (2, 6)
    assert capfd.readouterr() == ("", "")


def test_an_onnx_product_opens_as_its_manifest_says(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    model = tiny_path("logits")
    path = tmp_path / "tiny.int8.onnx"
    path.write_bytes(model.read_bytes())
    manifest = Manifest(
        product=ProductRecord.of(path),
        source=FileRecord.of(model),
        backend=BackendRecord(name="onnxruntime", version="1.0", provider="cpu"),
        precision="int8",
        engine={"provider": "qnn", "threads": 1},
        spec=read_spec(model).to_dict(),
        created="2026-11-24T12:00:00Z",
    )
    manifest.write(path)
    with pytest.raises(EngineError, match="'qnn' is not in this onnxruntime"):
        Explainer(path)
    with Explainer(path, provider="cpu") as explainer, Explainer(model, options={"threads": 1}) as plain:
        assert explainer.manifest == manifest
        assert plain.manifest is None
        assert np.array_equal(explainer.maps(feed()["image"]), plain.maps(feed()["image"]))
        assert explainer.warm_up() > 0
        with pytest.raises(ValueError, match="expected at least 1 run of at least 1 image, got 0 of 1"):
            explainer.warm_up(0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ManifestError, match="copy both again"):
        Explainer(path, provider="cpu")
    (tmp_path / "made.plan").write_bytes(b"whatever")
    with pytest.raises(ModelFileError, match="is an engine of TensorRT"):
        Explainer(tmp_path / "made.plan")
