"""What runs a model: the `Engine` protocol, and the one place that picks a backend.

A backend is a module with a class that follows `Engine`; it is imported only when it is asked
for. ONNX Runtime is the only one so far; its execution providers are named here by short names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from .errors import EngineError, ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

__all__ = ["PROVIDERS", "Engine", "EngineInfo", "open_engine"]

#: Short name -> ONNX Runtime's execution provider. Those full names are accepted too.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}


@dataclass(frozen=True)
class EngineInfo:
    """What runs, and how.

    backend: library and version. provider: the one that really runs, by its short name.
    inputs, outputs: names in the file's order. batch: the fixed batch size, or None when any
    size will do.
    """

    backend: str
    provider: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batch: int | None = None


class Engine(Protocol):
    """A loaded model. `infer` may be called from several threads at once."""

    def describe(self) -> EngineInfo:
        """What runs, and how."""
        ...

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run once. outputs: names to compute, None for all. Raises `EngineError`."""
        ...

    def close(self) -> None:
        """Free the model. Calling it again does nothing; `infer` raises afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_engine(
    path: str | os.PathLike[str], provider: str = "cpu", allow_fallback: bool = False, threads: int | None = None
) -> Engine:
    """Load the model at `path` for `provider` (a key of `PROVIDERS`).

    allow_fallback: take the CPU when the provider cannot start; without it that is an error,
    because ONNX Runtime itself changes over silently. threads: for the operators on the CPU;
    None leaves it to the backend.
    Raises `EngineError`, `ModelFileError` for a missing file, and `MissingDependencyError`.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: is a folder" if path.is_dir() else f"{path}: no such file")
    if threads is not None and threads < 1:
        raise EngineError(f"threads: expected at least 1, got {threads}")
    full = PROVIDERS.get(provider.lower(), provider)
    if full not in PROVIDERS.values() and not full.endswith("ExecutionProvider"):
        raise EngineError(f"unknown provider '{provider}': expected one of {', '.join(PROVIDERS)}")
    from .onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, full, allow_fallback=allow_fallback, threads=threads)
