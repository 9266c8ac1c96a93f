"""The calls of `cuda.bindings.runtime` that the runtime makes, on the host's memory.

As the real ones are: work is enqueued and only done when the stream is synchronised, a stream that captures
enqueues nothing, and copies outside of what was allocated fail.
"""

from __future__ import annotations

import ctypes
import enum
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["FakeCuda"]


class _Status(enum.Enum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100


class _Kind(enum.Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class _CaptureMode(enum.Enum):
    cudaStreamCaptureModeThreadLocal = 1


_OK = _Status.cudaSuccess


class FakeCuda:
    """limit: bytes of memory on the GPU. allocated: how often memory was asked for. live: blocks not freed yet."""

    cudaError_t = _Status
    cudaMemcpyKind = _Kind
    cudaStreamCaptureMode = _CaptureMode
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0

    def __init__(self, devices: int = 1, limit: int = 2**30) -> None:
        self._devices, self._limit = devices, limit
        self._blocks: dict[str, dict[int, np.ndarray]] = {"device": {}, "host": {}}
        self._queue: list[Callable[[], Any]] = []
        self._capture: list[Callable[[], Any]] | None = None
        self.streams = self.graphs = self.allocated = self.launched = 0

    @property
    def live(self) -> int:
        return sum(map(len, self._blocks.values())) + self.streams + self.graphs

    def enqueue(self, work: Callable[[], Any]) -> None:
        """What TensorRT does on the stream."""
        (self._queue if self._capture is None else self._capture).append(work)

    def owns(self, address: int) -> bool:
        return address in self._blocks["device"]

    def cudaGetDeviceCount(self) -> Any:
        return (_OK, self._devices) if self._devices else (_Status.cudaErrorNoDevice, None)

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return _OK, SimpleNamespace(name=b"Fake GPU\0\0", major=8, minor=7)

    def cudaGetErrorName(self, status: _Status) -> Any:
        return _OK, status.name.encode()

    def cudaGetErrorString(self, status: _Status) -> Any:
        return _OK, b"in other words"

    def cudaSetDevice(self, device: int) -> Any:
        return (_OK if device < self._devices else _Status.cudaErrorInvalidValue,)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        self.streams += 1
        return _OK, 4711

    def cudaStreamDestroy(self, stream: int) -> Any:
        self.streams -= 1
        return (_OK,)

    def cudaStreamSynchronize(self, stream: int) -> Any:
        if self._capture is not None:
            return (_Status.cudaErrorInvalidValue,)
        queue, self._queue = self._queue, []
        for work in queue:
            work()
        return (_OK,)

    def cudaMalloc(self, size: int) -> Any:
        if size + sum(block.nbytes for block in self._blocks["device"].values()) > self._limit:
            return _Status.cudaErrorMemoryAllocation, None
        return _OK, self._new("device", size)

    def cudaHostAlloc(self, size: int, flags: int) -> Any:
        return _OK, self._new("host", size)

    def cudaFree(self, address: int) -> Any:
        return self._drop("device", address)

    def cudaFreeHost(self, address: int) -> Any:
        return self._drop("host", address)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: _Kind, stream: int) -> Any:
        where = ("device", "host") if kind is _Kind.cudaMemcpyHostToDevice else ("host", "device")
        if not all(self._holds(name, at, size) for name, at in zip(where, (target, source), strict=True)):
            return (_Status.cudaErrorInvalidValue,)
        self.enqueue(functools.partial(ctypes.memmove, target, source, size))
        return (_OK,)

    def cudaStreamBeginCapture(self, stream: int, mode: _CaptureMode) -> Any:
        if self._queue:  # real streams allow that; the backend is not meant to
            return (_Status.cudaErrorInvalidValue,)
        self._capture = []
        return (_OK,)

    def cudaStreamEndCapture(self, stream: int) -> Any:
        captured, self._capture = self._capture, None
        self.graphs += 1
        return _OK, captured

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        self.graphs += 1
        return _OK, list(graph)

    def cudaGraphDestroy(self, graph: Any) -> Any:
        self.graphs -= 1
        return (_OK,)

    def cudaGraphExecDestroy(self, graph: Any) -> Any:
        self.graphs -= 1
        return (_OK,)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> Any:
        self.launched += 1
        self._queue += graph
        return (_OK,)

    def _new(self, where: str, size: int) -> int:
        self.allocated += 1
        block = np.full(size, 0xAB, np.uint8)
        self._blocks[where][block.ctypes.data] = block
        return block.ctypes.data

    def _drop(self, where: str, address: int) -> Any:
        return (_OK if self._blocks[where].pop(address, None) is not None else _Status.cudaErrorInvalidValue,)

    def _holds(self, where: str, address: int, size: int) -> bool:
        return any(at <= address and address + size <= at + len(b) for at, b in self._blocks[where].items())
