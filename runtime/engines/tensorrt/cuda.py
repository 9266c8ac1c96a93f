"""The few calls of the CUDA runtime that running an engine needs, and nothing else.

NVIDIA's own bindings (`cuda-bindings`; pure calls, x86-64 and aarch64) are imported when a GPU is first asked for.
Everything here is written against their documented signatures; see tests/gpu for what runs it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError, MissingDependencyError

__all__ = ["Cuda", "Gpu", "find_gpu"]


@dataclass(frozen=True)
class Gpu:
    """name: as the driver gives it. compute_capability: as "8.6"."""

    name: str
    compute_capability: str


class Cuda:
    """One GPU and one stream on it. Addresses are integers, in bytes.

    The current device belongs to the calling thread: `use` before other calls of a thread. Not safe to use
    from several threads at once.
    bindings: what stands in for NVIDIA's.
    Raises `MissingDependencyError` without the bindings, and `EngineError` without a GPU or where a call fails.
    """

    def __init__(self, device_id: int = 0, bindings: Any = None) -> None:
        self._rt = bindings or _bindings()
        self._device = device_id
        _check_device(self._rt, device_id)
        self.use()
        self._stream = self._call(self._rt.cudaStreamCreateWithFlags, self._rt.cudaStreamNonBlocking)

    @property
    def stream(self) -> int:
        """The stream's handle, for TensorRT."""
        return int(self._stream)

    def use(self) -> None:
        """Make this GPU the calling thread's."""
        self._call(self._rt.cudaSetDevice, self._device)

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the GPU, aligned to 256."""
        return int(self._call(self._rt.cudaMalloc, max(size, 1)))

    def free(self, address: int) -> None:
        self._call(self._rt.cudaFree, address)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes of the host's memory that the GPU copies without a detour; free with `free_pinned`."""
        address = int(self._call(self._rt.cudaHostAlloc, max(size, 1), self._rt.cudaHostAllocDefault))
        return np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(address))

    def free_pinned(self, buffer: NDArray[np.uint8]) -> None:
        self._call(self._rt.cudaFreeHost, buffer.ctypes.data)

    def upload(self, address: int, source: NDArray[np.uint8]) -> None:
        """Enqueue copying the bytes of `source`, which is pinned, to the GPU."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._rt.cudaMemcpyAsync, address, source.ctypes.data, source.nbytes, kind, self._stream)

    def download(self, target: NDArray[np.uint8], address: int) -> None:
        """Enqueue copying as many bytes as `target`, which is pinned, holds from the GPU."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._rt.cudaMemcpyAsync, target.ctypes.data, address, target.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        """Wait until everything that was enqueued is done."""
        self._call(self._rt.cudaStreamSynchronize, self._stream)

    def record(self, work: Callable[[], None]) -> Any:
        """What `work` enqueues, as a graph for `replay`; it does not run now. Free it with `free_graph`."""
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._rt.cudaStreamBeginCapture, self._stream, mode)
        try:
            work()
        except BaseException:
            # The stream is unusable until the capture ends; `work` has the reason, not this.
            self._rt.cudaStreamEndCapture(self._stream)
            raise
        graph = self._call(self._rt.cudaStreamEndCapture, self._stream)
        try:
            return self._call(self._rt.cudaGraphInstantiate, graph, 0)
        finally:
            self._call(self._rt.cudaGraphDestroy, graph)

    def replay(self, graph: Any) -> None:
        """Enqueue a recorded graph."""
        self._call(self._rt.cudaGraphLaunch, graph, self._stream)

    def free_graph(self, graph: Any) -> None:
        self._call(self._rt.cudaGraphExecDestroy, graph)

    def close(self) -> None:
        """Free the stream."""
        self._call(self._rt.cudaStreamDestroy, self._stream)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return _call(self._rt, function, *arguments)


def find_gpu(device_id: int = 0) -> Gpu:
    """The machine's GPU number `device_id`.

    Raises `MissingDependencyError` without the bindings, and `EngineError` without that GPU.
    """
    rt = _bindings()
    _check_device(rt, device_id)
    found = _call(rt, rt.cudaGetDeviceProperties, device_id)
    name = found.name.partition(b"\0")[0].decode(errors="replace")
    return Gpu(name, f"{found.major}.{found.minor}")


def _check_device(rt: Any, device_id: int) -> None:
    status, count = rt.cudaGetDeviceCount()
    if status != rt.cudaError_t.cudaSuccess or not count:
        why = _reason(rt, status) if status != rt.cudaError_t.cudaSuccess else "the driver sees none"
        raise EngineError(f"no NVIDIA GPU can be used here ({why}): run this on a machine with one and its driver")
    if device_id >= count:
        raise EngineError(f"device_id {device_id}: this machine has {count} GPU(s), counted from 0")


def _call(rt: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call without its status. Raises `EngineError` with CUDA's words."""
    status, *values = function(*arguments)
    if status != rt.cudaError_t.cudaSuccess:
        raise EngineError(f"CUDA: {function.__name__} failed: {_reason(rt, status)}")
    return values[0] if values else None


def _reason(rt: Any, status: Any) -> str:
    return f"{rt.cudaGetErrorName(status)[1].decode()}: {rt.cudaGetErrorString(status)[1].decode()}"


@functools.cache
def _bindings() -> Any:
    how = 'install cfcam[tensorrt] (with CUDA 12 also "cuda-bindings==12.*")'
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise MissingDependencyError(f"cuda-bindings is not installed, which a GPU is asked through: {how}") from error
    return runtime
