"""`EngineOptions` in ONNX Runtime's own names.

Those of the providers are in onnxruntime.ai/docs/execution-providers (CUDA, TensorRT, TensorRT RTX); values are text.
"""

from __future__ import annotations

from typing import Any, Literal

from ...errors import EngineError
from ..options import EngineOptions, short_name
from .words import log_severity

__all__ = ["CPU", "GPU_PROVIDERS", "graphs_of", "provider_list", "session_options"]

CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
_RTX = "NvTensorRTRTXExecutionProvider"

#: Those whose tensors are in the memory that ONNX Runtime calls "cuda".
GPU_PROVIDERS = (_CUDA, _TENSORRT, _RTX)

#: What one provider cannot run should stay on the GPU before it goes to the CPU.
_NEXT = {_TENSORRT: [_CUDA], _RTX: [_CUDA]}
_CUDA_GRAPH = {_CUDA: "enable_cuda_graph", _TENSORRT: "trt_cuda_graph_enable", _RTX: "enable_cuda_graph"}
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


def session_options(ort: Any, options: EngineOptions) -> Any:
    """The `SessionOptions` object."""
    made = ort.SessionOptions()
    made.log_severity_level = log_severity()
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[options.graph_optimization])
    if options.threads is not None:
        made.intra_op_num_threads = options.threads
    for key, value in options.session.items():
        made.add_session_config_entry(key, value)
    return made


def provider_list(provider: str, options: EngineOptions, present: list[str]) -> list[tuple[str, dict[str, str]]]:
    """`provider` with its options, and behind it what runs the operators that it does not.

    provider: by its full name. present: what this ONNX Runtime has.
    Raises `EngineError` for options that the provider has no use for.
    """
    behind = [name for name in _NEXT.get(provider, []) if name in present]
    names = list(dict.fromkeys([provider, *behind, CPU]))
    devices = {name: {"device_id": str(options.device_id)} if name in GPU_PROVIDERS else {} for name in names}
    return [(name, _of(provider, options, devices[name]) if name == provider else devices[name]) for name in names]


def graphs_of(provider: str, version: str) -> Literal["one", "many"]:
    """How many CUDA graphs a session on `provider` keeps apart, by a run option, in ONNX Runtime `version`."""
    numbered = tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= (1, 18)
    return "many" if numbered and provider in (_CUDA, _RTX) else "one"


def _of(provider: str, options: EngineOptions, made: dict[str, str]) -> dict[str, str]:
    if options.cache is not None:
        made |= _cached(provider, options.cache)
    if options.cuda_graph:
        if provider not in _CUDA_GRAPH:
            raise EngineError(f"cuda_graph: the provider '{short_name(provider)}' has no CUDA graphs")
        made[_CUDA_GRAPH[provider]] = "1"
    return {**made, **options.provider_options}


def _cached(provider: str, folder: str) -> dict[str, str]:
    if provider == _TENSORRT:
        return {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
    if provider == _RTX:
        return {"nv_runtime_cache_path": folder}
    raise EngineError(f"cache: the provider '{short_name(provider)}' compiles nothing that could be kept")
