"""What goes in and out of a TensorRT engine, and the memory for it.

Everything is allocated once, for the largest batch of the engine's profile: on the GPU, and pinned on the host.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from .cuda import Cuda

__all__ = ["Binding", "Buffers", "read_bindings", "release"]

_FREE = -1


@dataclass(frozen=True)
class Binding:
    """A tensor that goes in or out.

    dtype: numpy's. shape: of one inference, -1 where it is free. profile: of an input, its smallest, best and
    largest shape. size: bytes of the largest.
    """

    name: str
    is_input: bool
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    profile: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None
    size: int

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an input of that shape lies in the profile."""
        assert self.profile is not None
        low, _, high = self.profile
        return len(shape) == len(low) and all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))

    def wanted(self) -> str:
        """The profile in words."""
        assert self.profile is not None
        low, best, high = self.profile
        return f"{low}" if low == high else f"from {low} to {high} (best {best})"


def read_bindings(module: Any, engine: Any, context: Any) -> tuple[Binding, ...]:
    """The tensors of `engine`, in its order. context: one of its own, which keeps the largest shapes.

    Raises `EngineError` for what an exported graph does not have: tensors of the host's memory, outputs whose size
    depends on the data.
    """
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    for name in names:
        if engine.get_tensor_location(name) != module.TensorLocation.DEVICE:
            raise EngineError(f"'{name}' is a shape tensor, which lies in the host's memory: not supported")
    inputs = [name for name in names if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT]
    profiles = {name: _profile(engine, name) for name in inputs}
    for name, (_, _, largest) in profiles.items():
        if not context.set_input_shape(name, largest):
            raise EngineError(f"input '{name}' does not take the largest shape of its own profile, {largest}")
    return tuple(_binding(module, engine, context, name, profiles.get(name)) for name in names)


def _profile(engine: Any, name: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    shape = tuple(engine.get_tensor_shape(name))
    if _FREE not in shape:
        return shape, shape, shape
    low, best, high = (tuple(one) for one in engine.get_tensor_profile_shape(name, 0))
    return low, best, high


def _binding(module: Any, engine: Any, context: Any, name: str, profile: Any) -> Binding:
    largest = tuple(context.get_tensor_shape(name))
    if _FREE in largest:
        raise EngineError(f"the size of output '{name}' depends on the data: not supported")
    dtype = _dtype(module, name, engine.get_tensor_dtype(name))
    shape = tuple(engine.get_tensor_shape(name))
    return Binding(name, profile is not None, dtype, shape, profile, math.prod(largest) * dtype.itemsize)


def _dtype(module: Any, name: str, kind: Any) -> np.dtype[Any]:
    try:
        return np.dtype(module.nptype(kind))
    except TypeError as error:
        raise EngineError(f"'{name}' is {kind}, a type that NumPy does not have: build it with another") from error


class Buffers:
    """Memory for all tensors of one engine."""

    def __init__(self, cuda: Cuda, bindings: tuple[Binding, ...]) -> None:
        self._cuda = cuda
        self.addresses: dict[str, int] = {}
        self._hosts: dict[str, NDArray[np.uint8]] = {}
        try:
            for one in bindings:
                self.addresses[one.name] = cuda.allocate(one.size)
                self._hosts[one.name] = cuda.pinned(one.size)
        except BaseException:
            self.close()
            raise

    def upload(self, binding: Binding, value: NDArray[Any]) -> None:
        """Enqueue copying `value` to the GPU, in the engine's own type."""
        raw = self._hosts[binding.name][: value.size * binding.dtype.itemsize]
        np.copyto(raw.view(binding.dtype).reshape(value.shape), value, casting="same_kind")
        self._cuda.upload(self.addresses[binding.name], raw)

    def download(self, binding: Binding, shape: tuple[int, ...]) -> NDArray[Any]:
        """Enqueue copying an output of that shape to the host; a view that is overwritten by the next inference."""
        raw = self._hosts[binding.name][: math.prod(shape) * binding.dtype.itemsize]
        self._cuda.download(raw, self.addresses[binding.name])
        return raw.view(binding.dtype).reshape(shape)

    def close(self) -> None:
        """Free everything."""
        release(self._cuda.free, self.addresses)
        release(self._cuda.free_pinned, self._hosts)


def release(free: Callable[[Any], None], held: dict[Any, Any]) -> None:
    """Free what `held` holds, and empty it. After some failures of CUDA all calls fail, and the driver cleans up."""
    for one in held.values():
        with contextlib.suppress(EngineError):
            free(one)
    held.clear()
