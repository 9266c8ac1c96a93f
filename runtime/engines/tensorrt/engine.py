"""The TensorRT backend: running a built engine ("plan"), by `tensorrt` or `tensorrt_rtx`.

Calls are those of TensorRT's Python API (docs.nvidia.com/deeplearning/tensorrt, "Performing Inference"); both
packages have them, 10.1 and later. Precision is in the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...closing import Closing
from ...errors import EngineError, ModelFileError
from ..base import EngineInfo
from ..options import EngineOptions
from .contexts import Contexts, make_contexts
from .cuda import Cuda
from .io import Binding, Buffers, read_bindings
from .packages import Messages, load_package

__all__ = ["TensorRtEngine"]


class TensorRtEngine(Closing):
    """A built engine on one GPU.

    Safe to run from several threads at once: they take turns, because the engine has one stream and one set of
    buffers. What `infer` returns is a copy, and the caller's. Nothing is allocated on the GPU after opening, except
    for what a CUDA graph needs when a batch size is first seen.

    package: "tensorrt" or "tensorrt_rtx", the one that built it. cuda: the GPU; None opens the one of `options`.
    host_code: run the runtime that a version-compatible engine brings with it.
    Raises `EngineError`, `ModelFileError` and `MissingDependencyError`.
    """

    def __init__(
        self,
        path: Path,
        package: str,
        options: EngineOptions | None = None,
        *,
        cuda: Cuda | None = None,
        host_code: bool = False,
    ) -> None:
        options = options or EngineOptions()
        self._path, self._lock = path, threading.Lock()
        self._host_code = host_code
        self._contexts: Contexts | None = None
        self._buffers: Buffers | None = None
        self._closed = False
        self._rt = load_package(package)
        try:
            self._cuda = cuda or Cuda(options.device_id)
        except EngineError as error:
            raise EngineError(f"{path}: {error}") from error
        try:
            with self._rt.listen() as messages:
                bindings = self._load(self._read(), options, messages)
            self._inputs = {one.name: one for one in bindings if one.is_input}
            self._outputs = {one.name: one for one in bindings if not one.is_input}
            self._info = self._describe()
        except EngineError as error:
            self.close()
            raise EngineError(f"{path}: {error}") from error
        except BaseException:  # whatever it is, nothing stays taken on the GPU
            self.close()
            raise

    def describe(self) -> EngineInfo:
        return self._info

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        self._check(inputs, outputs)
        wanted = list(self._outputs if outputs is None else outputs)
        with self._lock:
            if self._closed:
                raise EngineError(f"{self._path}: the engine is closed")
            try:
                return self._run(inputs, wanted)
            except EngineError as error:
                raise EngineError(f"{self._path}: {self._rt} failed: {error}") from error

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for part in (self._contexts, self._buffers):
                if part is not None:
                    part.close()
            self._engine = self._runtime = None
            self._cuda.close()

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{self._path}: cannot be read ({error.strerror or error})") from error

    def _load(self, plan: bytes, options: EngineOptions, messages: Messages) -> tuple[Binding, ...]:
        rt = self._rt
        # The engine needs its runtime for as long as it lives.
        self._runtime: Any = rt.module.Runtime(rt.logger)
        if self._host_code:
            self._runtime.engine_host_code_allowed = True
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"{rt} cannot load it: {messages.last}")
        self._contexts = make_contexts(rt, self._engine, self._cuda, options, self._path)
        bindings = read_bindings(rt.module, self._engine, self._contexts.first)
        self._buffers = Buffers(self._cuda, bindings)
        self._contexts.addresses = self._buffers.addresses
        return bindings

    def _run(self, inputs: Mapping[str, NDArray[Any]], wanted: list[str]) -> dict[str, NDArray[Any]]:
        contexts, buffers = self._contexts, self._buffers
        assert contexts is not None  # both are there from opening to closing
        assert buffers is not None
        self._cuda.use()
        for name, value in inputs.items():
            buffers.upload(self._inputs[name], value)
        context = contexts.execute({name: value.shape for name, value in inputs.items()})
        views = {name: buffers.download(self._outputs[name], tuple(context.get_tensor_shape(name))) for name in wanted}
        self._cuda.synchronize()
        return {name: np.array(view) for name, view in views.items()}

    def _describe(self) -> EngineInfo:
        """With the smallest and the largest batch that every input takes."""
        profiles = [one.profile for one in self._inputs.values() if one.profile is not None and one.shape]
        low, high = max(low[0] for low, _, _ in profiles), min(high[0] for _, _, high in profiles)
        return EngineInfo(
            backend=str(self._rt),
            provider=self._rt.name,
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
            batch=low if low == high else None,
            min_batch=low,
            max_batch=high,
            takes={
                name: (np.dtype(one.dtype).name, tuple(size if size >= 0 else None for size in one.shape))
                for name, one in self._inputs.items()
            },
        )

    def _check(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None) -> None:
        for what, known, names in (("inputs", self._inputs, inputs), ("outputs", self._outputs, outputs or ())):
            for name in names:
                if name not in known:
                    raise EngineError(f"{self._path}: has no '{name}': its {what} are {', '.join(sorted(known))}")
        if missing := [name for name in self._inputs if name not in inputs]:
            raise EngineError(f"{self._path}: expected also the inputs {', '.join(missing)}")
        for name, value in inputs.items():
            self._check_value(self._inputs[name], value)

    def _check_value(self, binding: Binding, value: NDArray[Any]) -> None:
        if not np.can_cast(value.dtype, binding.dtype, "same_kind"):
            raise EngineError(f"{self._path}: input '{binding.name}' is {value.dtype}, expected {binding.dtype}")
        if not binding.takes(value.shape):
            raise EngineError(
                f"{self._path}: input '{binding.name}' has shape {value.shape}, the engine was built for "
                f"{binding.wanted()}: build it again for other sizes"
            )
