"""The ONNX Runtime backend: what it computes, the provider check, and errors that keep their words."""

from __future__ import annotations

import builtins
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.engines.options import PROVIDERS, EngineOptions
from cfcam.runtime.errors import EngineError, MissingDependencyError
from tiny_model import VARIANTS, reference

_CUDA, _TENSORRT, _RTX, _CPU = (PROVIDERS[name] for name in ("cuda", "tensorrt", "rtx", "cpu"))


def _feed(n: int = 2, target: int = -1) -> dict[str, np.ndarray]:
    image = np.random.default_rng(n).standard_normal((n, 3, 32, 48)).astype(np.float32)
    return {"image": image, "cam_target": np.full(n, target, np.int64)}


def feed(n: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    image = np.random.default_rng([n, seed]).standard_normal((n, 3, 32, 48)).astype(np.float32)
    return {"image": image, "cam_target": np.full(n, -1, np.int32)}


@pytest.mark.parametrize("name", ["logits", "nhwc", "bgr", "gray", "binary"])
@pytest.mark.parametrize("target", [-1, 0])
def test_the_tiny_model_is_its_reference(tiny_path, name, target):
    model = VARIANTS[name]
    shape = model.spec.input.shape(3)
    images = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    with open_engine(tiny_path(name)) as engine:
        got = engine.infer({"image": images, "cam_target": np.full(3, target, np.int64)})
    for i in range(3):
        want = reference(model, images[i], target)
        assert np.allclose(got["scores"][i], want["logits"], atol=1e-5)
        assert np.allclose(got["cam_activations"][i], want["activations"], atol=1e-5)
        assert np.allclose(got["cam_gradients"][i], want["gradients"], atol=1e-7)
        assert got["cam_class"][i] == want["chosen"]
    assert got["cam_activations"].std() > 0.1
    assert np.abs(got["cam_gradients"]).max() > 1e-3


def test_describe_and_outputs(tiny_path):
    with open_engine(tiny_path("logits")) as engine:
        info = engine.describe()
        assert info.provider == "cpu"
        assert info.backend.startswith("onnxruntime ")
        assert (info.inputs, info.batch) == (("image", "cam_target"), None)
        some = engine.infer(_feed(), ["cam_class", "scores"])
        assert list(some) == ["cam_class", "scores"]
    with open_engine(tiny_path("fixed-batch")) as engine:
        assert engine.describe().batch == 2


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_every_level_computes_the_same(tiny_path: Callable[[str], Path], level: Any) -> None:
    path = tiny_path("logits")
    with open_engine(path, threads=1) as reference, open_engine(path, options={"graph_optimization": level}) as engine:
        a, b = reference.infer(feed()), engine.infer(feed())
        assert all(np.allclose(a[name], b[name], rtol=1e-5, atol=1e-6) for name in a)


def test_backend_errors_keep_their_words(tiny_path, tmp_path, capfd):
    engine = open_engine(tiny_path("logits"))
    wrong = {**_feed(), "image": np.zeros((1, 3, 5, 5), np.float32)}
    with pytest.raises(EngineError, match=r"logits\.cam\.onnx: onnxruntime .*(Got: 5|invalid dimensions)") as caught:
        engine.infer(wrong)
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="no_such_output"):
        engine.infer(_feed(), ["no_such_output"])
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(_feed())
    (tmp_path / "bad.onnx").write_bytes(tiny_path("logits").read_bytes()[:300])
    with pytest.raises(EngineError, match=r"bad\.onnx: onnxruntime .* cannot load"):
        open_engine(tmp_path / "bad.onnx")
    assert capfd.readouterr().err == ""


def test_an_absent_provider_is_an_error_unless_fallback_is_allowed(tiny_path):
    import onnxruntime

    absent = next(p for p in ("rocm", "cuda", "qnn", "coreml") if _full(p) not in onnxruntime.get_available_providers())
    with pytest.raises(EngineError, match=f"'{absent}' is not in this onnxruntime"):
        open_engine(tiny_path("logits"), absent)
    with open_engine(tiny_path("logits"), absent, allow_fallback=True) as engine:
        assert engine.describe().provider == "cpu"


def _full(short: str) -> str:
    from cfcam.runtime.engines.options import PROVIDERS

    return PROVIDERS[short]


def test_a_silent_fallback_is_caught(tiny_path, monkeypatch):
    """onnxruntime-gpu lists CUDA as available and runs on the CPU when CUDA cannot start."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers, **more: real(path, options, providers=["CPUExecutionProvider"], **more),
    )
    with pytest.raises(EngineError, match=r"'cuda' was asked for.*would run on 'cpu'"):
        open_engine(tiny_path("logits"), "cuda")
    with open_engine(tiny_path("logits"), "cuda", allow_fallback=True) as engine:
        assert engine.describe().provider == "cpu"


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


def test_without_onnxruntime_the_extras_are_named(tiny_path, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real_import(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "onnxruntime", raising=False)
        patch.setattr(builtins, "__import__", refuse)
        with pytest.raises(MissingDependencyError, match=r"cfcam\[cpu\].*cfcam\[gpu\]"):
            open_engine(tiny_path("logits"))
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(MissingDependencyError, match="half installed"):
        open_engine(tiny_path("logits"))


def test_threads_share_one_engine(tiny_path):
    feeds = [_feed(n) for n in range(1, 7)]
    with open_engine(tiny_path("logits"), threads=1) as engine:
        alone = [engine.infer(feed) for feed in feeds]
        together: list = [None] * len(feeds)

        def work(i: int) -> None:
            for _ in range(10):
                together[i] = engine.infer(feeds[i])

        workers = [threading.Thread(target=work, args=(i,)) for i in range(len(feeds))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for a, b in zip(alone, together, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
