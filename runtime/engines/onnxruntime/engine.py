"""The ONNX Runtime backend.

onnxruntime is imported when the first engine is opened. It comes in packages (CPU, GPU) that are
one module, so it is no base dependency.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...closing import Closing
from ...errors import EngineError, MissingDependencyError
from ..base import EngineInfo, check_feed
from ..options import EngineOptions, full_name, short_name
from .binding import BoundSession
from .options import CPU, GPU_PROVIDERS, graphs_of, provider_list, session_options
from .words import refusal
from .workarounds import session_workarounds

__all__ = ["OnnxRuntimeEngine"]

_log = logging.getLogger(__name__)

_INTEGERS = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}


class OnnxRuntimeEngine(Closing):
    """A session of ONNX Runtime, which is safe to run from several threads at once.

    With I/O binding, which CUDA graphs need, threads take turns.
    """

    def __init__(self, path: Path, options: EngineOptions | None = None) -> None:
        options = options or EngineOptions()
        self._path, self._ort = path, _import()
        session = self._load(options)
        actual = session.get_providers()[0]
        wanted = full_name(options.provider)
        if actual != wanted and not options.allow_fallback:
            raise EngineError(
                f"provider '{short_name(wanted)}' was asked for, but onnxruntime {self._ort.__version__} could not "
                f"start it and would run on '{short_name(actual)}': check its driver and libraries, or allow the "
                "fallback"
            )
        batch = session.get_inputs()[0].shape[0] if session.get_inputs()[0].shape else None
        fixed = batch if isinstance(batch, int) else None
        self._session: Any = session
        self._integers = {v.name: _INTEGERS[v.type] for v in session.get_inputs() if v.type in _INTEGERS}
        self._info = EngineInfo(
            backend=f"onnxruntime {self._ort.__version__}",
            provider=short_name(actual),
            inputs=tuple(value.name for value in session.get_inputs()),
            outputs=tuple(value.name for value in session.get_outputs()),
            batch=fixed,
            min_batch=fixed or 1,
            max_batch=fixed,
            takes={value.name: (_dtype(value.type), _sizes(value.shape)) for value in session.get_inputs()},
        )
        # Last, since it may hold a thread.
        self._bound = self._bind(session, actual, options)
        _log.info("%s: runs on '%s' of %s", path, self._info.provider, self._info.backend)

    def describe(self) -> EngineInfo:
        return self._info

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        session, bound = self._session, self._bound
        if session is None:
            raise EngineError(f"{self._path}: the engine is closed")
        check_feed(inputs, outputs)
        names = list(self._info.outputs if outputs is None else outputs)
        if not names:  # which ONNX Runtime takes for all of them
            return {}
        feed = {name: self._typed(name, value) for name, value in inputs.items()}
        try:
            values = session.run(names, feed) if bound is None else bound.run(names, feed)
        except Exception as error:  # its exceptions have no common base
            raise EngineError(f"{self._path}: {self._info.backend} failed: {refusal(error)}") from error
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        if self._bound is not None:
            self._bound.close()
        self._session = self._bound = None

    def _bind(self, session: Any, provider: str, options: EngineOptions) -> BoundSession | None:
        """Buffers for the session, where I/O binding was asked for or a CUDA graph needs it."""
        on_gpu = provider in GPU_PROVIDERS
        graphs = graphs_of(provider, self._ort.__version__) if options.cuda_graph and on_gpu else None
        if not graphs and not options.io_binding:
            return None
        return BoundSession(self._ort, session, "cuda" if on_gpu else "cpu", options.device_id if on_gpu else 0, graphs)

    def _load(self, options: EngineOptions) -> Any:
        """The session with the provider that was asked for, or with the CPU where that is allowed."""
        ort, provider = self._ort, full_name(options.provider)
        present = ort.get_available_providers()
        if provider in present:
            try:
                return self._session_on(provider, options)
            except EngineError:
                if provider == CPU or not options.allow_fallback:
                    raise
        elif not options.allow_fallback:
            raise EngineError(
                f"provider '{short_name(provider)}' is not in this onnxruntime {ort.__version__} (it has: "
                f"{', '.join(map(short_name, present))}): install cfcam[gpu] for NVIDIA, or allow the fallback to "
                "the CPU"
            )
        _log.warning("%s: '%s' cannot start, the CPU runs it instead", self._path, short_name(provider))
        return self._session_on(CPU, options.on(CPU))

    def _session_on(self, provider: str, options: EngineOptions) -> Any:
        ort = self._ort
        providers = provider_list(provider, options, ort.get_available_providers())
        options = replace(options, session={**session_workarounds(self._path), **options.session})
        try:
            # Its own fallback would print to stdout, and go on with another provider in the middle of the work.
            return ort.InferenceSession(
                str(self._path), session_options(ort, options), providers=providers, enable_fallback=0
            )
        except Exception as error:  # its exceptions have no common base
            raise EngineError(
                f"{self._path}: onnxruntime {ort.__version__} cannot load it: {refusal(error)}"
            ) from error

    def _typed(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        integer = self._integers.get(name)
        return value if integer is None or value.dtype.kind != "i" else value.astype(integer, copy=False)


def _dtype(kind: str) -> str:
    """numpy's name of a type such as ``tensor(float)``."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def _sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in shape)


def _import() -> Any:
    how = "install cfcam[cpu], or cfcam[gpu] for NVIDIA (one of them, never both)"
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"onnxruntime is not installed: {how}") from error
    # Removing one of two installed packages leaves an empty folder, which still imports.
    if not hasattr(onnxruntime, "InferenceSession"):
        raise MissingDependencyError(f"onnxruntime is only half installed: uninstall all its packages, then {how}")
    return onnxruntime
