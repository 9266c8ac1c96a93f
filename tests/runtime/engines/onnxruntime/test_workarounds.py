"""Session workarounds: which files get them, and that the engine and the log say so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cfcam.runtime import open_engine
from cfcam.runtime.engines.onnxruntime import workarounds
from cfcam.runtime.engines.onnxruntime.workarounds import processor_workarounds, session_workarounds

onnx = pytest.importorskip("onnx")

_KEY = "session.disable_quant_qdq"


def users_own(folder: Path, kind: type[Any]) -> Path:
    """A quantised Relu that cfcam never saw, with scales and values of one kind."""
    make, element = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        make.make_node("QuantizeLinear", ["x", "s"], ["a"]),
        make.make_node("DequantizeLinear", ["a", "s"], ["b"]),
        make.make_node("Relu", ["b"], ["y"]),
    ]
    ends = [[make.make_tensor_value_info(name, element, [2])] for name in ("x", "y")]
    graph = make.make_graph(nodes, "g", *ends, [onnx.numpy_helper.from_array(np.array(0.5, kind), "s")])
    path = folder / f"{np.dtype(kind).name}.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 19)], ir_version=9), path)
    return path


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Gives a function that makes this machine one with those flags."""

    def of(flags: str, machine: str = "x86_64") -> None:
        workarounds._saturates.cache_clear()
        monkeypatch.setattr(workarounds.platform, "machine", lambda: machine)
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\nbugs\t\t:\n")
        monkeypatch.setattr(workarounds, "_CPUINFO", tmp_path / "cpuinfo")

    yield of
    workarounds._saturates.cache_clear()


def test_where_integer_kernels_saturate_there_are_none(processor: Any, tmp_path: Path) -> None:
    for flags, told in (
        ("flags\t\t: fpu avx2 fma", {_KEY: "1"}),
        ("flags\t\t: fpu avx2 avx512f", {_KEY: "1"}),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", {}),
        ("flags\t\t: fpu avx2 avx_vnni", {}),
        ("Features\t: fp asimd", {}),
    ):
        processor(flags)
        assert processor_workarounds() == told
        assert session_workarounds(users_own(tmp_path, np.float32)) == told
    processor("flags\t\t: fpu avx2", "aarch64")
    assert processor_workarounds() == {}
    processor("flags\t\t: fpu avx2")
    (tmp_path / "cpuinfo").unlink()
    assert processor_workarounds() == {}


def test_only_float16_scales_need_one(tmp_path: Path, tiny_path: Any, processor: Any) -> None:
    processor("flags\t\t: avx_vnni")
    assert session_workarounds(users_own(tmp_path, np.float16)) == {_KEY: "1"}
    assert session_workarounds(users_own(tmp_path, np.float32)) == {}
    assert session_workarounds(tiny_path("logits")) == {}


@pytest.mark.parametrize(("asked", "told"), [({}, "1"), ({_KEY: 0}, "0")])
def test_the_session_is_told_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: Any, told: str
) -> None:
    seen = []
    real = onnxruntime.InferenceSession

    def watched(path: str, options: Any, **more: Any) -> Any:
        seen.append(options.get_session_config_entry(_KEY))
        return real(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    with (
        caplog.at_level(logging.INFO, "cfcam"),
        open_engine(users_own(tmp_path, np.float16), options={"session": asked}) as engine,
    ):
        result = engine.infer({"x": np.array([-1, 2], np.float16)})["y"]
    assert seen == [told]
    assert result.tolist() == [0, 2]
    assert "float16 scales" in caplog.text
    assert "runs on 'cpu'" in caplog.text
