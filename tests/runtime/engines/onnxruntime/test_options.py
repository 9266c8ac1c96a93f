"""Engine options: what reaches ONNX Runtime."""

from __future__ import annotations

import onnxruntime
import pytest
from cfcam.runtime.engines.onnxruntime.options import graphs_of, provider_list, session_options
from cfcam.runtime.engines.options import PROVIDERS, EngineOptions
from cfcam.runtime.errors import EngineError

_CUDA, _TENSORRT, _RTX, _CPU = (PROVIDERS[name] for name in ("cuda", "tensorrt", "rtx", "cpu"))


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


def test_how_many_graphs() -> None:
    assert [graphs_of(name, "1.20.0") for name in (_CUDA, _RTX, _TENSORRT)] == ["many", "many", "one"]
    assert graphs_of(_CUDA, "1.17.1") == "one"
