"""The ONNX Runtime backend.

onnxruntime is imported when the first engine is opened. It comes in flavours (CPU, GPU) that are
one module, so it is no base dependency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine import PROVIDERS, EngineInfo
from .errors import EngineError, MissingDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

__all__ = ["OnnxRuntimeEngine"]

_CPU = "CPUExecutionProvider"
#: What TensorRT cannot run should stay on the GPU before it goes to the CPU.
_NEXT = {"TensorrtExecutionProvider": ["CUDAExecutionProvider"]}
#: Only fatal messages: errors come back as exceptions, with the same words.
_QUIET = 4


class OnnxRuntimeEngine:
    """A session of ONNX Runtime, which is safe to run from several threads at once."""

    def __init__(
        self, path: Path, provider: str = _CPU, *, allow_fallback: bool = False, threads: int | None = None
    ) -> None:
        ort = _import()
        self._path = path
        wanted = provider
        if provider not in ort.get_available_providers():
            if not allow_fallback:
                present = ", ".join(_short(name) for name in ort.get_available_providers())
                raise EngineError(
                    f"provider '{_short(provider)}' is not in this onnxruntime {ort.__version__} (it has: {present}): "
                    "install cfcam[gpu] for NVIDIA, or allow the fallback to the CPU"
                )
            provider = _CPU
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = list(dict.fromkeys([provider, *_NEXT.get(provider, []), _CPU]))
        try:
            session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its exceptions have no common base
            raise EngineError(f"{path}: onnxruntime {ort.__version__} cannot load it: {_words(error)}") from error
        actual = session.get_providers()[0]
        if actual != wanted and not allow_fallback:
            raise EngineError(
                f"provider '{_short(wanted)}' was asked for, but onnxruntime {ort.__version__} could not start it and "
                f"would run on '{_short(actual)}': check its driver and libraries, or allow the fallback"
            )
        batch = session.get_inputs()[0].shape[0] if session.get_inputs()[0].shape else None
        self._session: Any = session
        self._info = EngineInfo(
            backend=f"onnxruntime {ort.__version__}",
            provider=_short(actual),
            inputs=tuple(value.name for value in session.get_inputs()),
            outputs=tuple(value.name for value in session.get_outputs()),
            batch=batch if isinstance(batch, int) else None,
        )

    def describe(self) -> EngineInfo:
        return self._info

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        session = self._session
        if session is None:
            raise EngineError(f"{self._path}: the engine is closed")
        names = list(self._info.outputs if outputs is None else outputs)
        try:
            values = session.run(names, dict(inputs))
        except Exception as error:  # its exceptions have no common base
            raise EngineError(f"{self._path}: {self._info.backend} failed: {_words(error)}") from error
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


def _import() -> Any:
    how = "install cfcam[cpu], or cfcam[gpu] for NVIDIA (one of them, never both)"
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"onnxruntime is not installed: {how}") from error
    # Removing one of two installed flavours leaves an empty folder, which still imports.
    if not hasattr(onnxruntime, "InferenceSession"):
        raise MissingDependencyError(f"onnxruntime is only half installed: uninstall all its flavours, then {how}")
    return onnxruntime


def _short(provider: str) -> str:
    return next((short for short, full in PROVIDERS.items() if full == provider), provider)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
