"""The part of TensorRT's Python API that runs an engine, computed by ONNX Runtime on `FakeCuda`'s memory.

A fake plan names an ONNX file and a profile. Classes and members are called as the real ones; a test compares
them with the real package, so whatever the backend calls here exists there.
"""

from __future__ import annotations

import ctypes
import enum
import json
import math
import types
from pathlib import Path
from typing import Any

import numpy as np
from fake_cuda import FakeCuda

__all__ = ["FakeTensorRt", "fake_plan"]

_MAGIC = b"ftrt"


def fake_plan(
    model: Path, batch: tuple[int, int, int] = (1, 2, 4), target: str = "int64", broken: str | None = None
) -> bytes:
    """An engine of the ONNX file `model`. target: type of `cam_target`. broken: what running it fails with."""
    return _MAGIC + json.dumps({"model": str(model), "batch": batch, "target": target, "broken": broken}).encode()


class _Mode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class _Location(enum.Enum):
    DEVICE = 0
    HOST = 1


class _Strategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class _GraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class ILogger:
    Severity = types.SimpleNamespace(WARNING=2)


class IRuntimeCache:
    def __init__(self) -> None:
        self._kernels = b""

    def deserialize(self, data: bytes) -> bool:
        self._kernels = data
        return True

    def serialize(self) -> bytes:
        return self._kernels + b"k"


class IRuntimeConfig:
    def __init__(self) -> None:
        self.cuda_graph_strategy = _GraphStrategy.DISABLED

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, strategy: Any) -> None:
        self._engine = engine
        self._shapes = {name: shape for name, (shape, _) in engine._inputs.items()}
        self._addresses: dict[str, int] = {}
        self._memory = 0 if strategy is _Strategy.USER_MANAGED else None
        self._settled: Any = None

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._memory = memory

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.get_tensor_profile_shape(name, 0)
        fits = all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))
        if not fits:
            return self._engine._say(f"{name}: {shape} is outside of the profile")
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        batch = next(iter(self._shapes.values()))[0]
        return tuple(batch if axis == -1 else axis for axis in self._engine.get_tensor_shape(name))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert self._engine._cuda.owns(memory)
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, shapes = self._engine, dict(self._shapes)
        if engine._broken is not None:
            return engine._say(engine._broken)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        assert set(self._addresses) == set(names)
        assert self._memory is None or engine._cuda.owns(self._memory)
        if engine._cuda._capture is not None:
            assert self._settled == shapes, "a shape is recorded before it ran"

        def work() -> None:
            assert self._shapes == shapes, "a recorded context was given another shape"
            feed = {name: self._array(name) for name in shapes}
            feed["cam_target"] = feed["cam_target"].astype(np.int64)
            outputs = [name for name in names if name not in shapes]
            for name, value in zip(outputs, engine._session.run(outputs, feed), strict=True):
                self._array(name)[...] = value
            self._settled = shapes

        engine._cuda.enqueue(work)
        return True

    def _array(self, name: str) -> np.ndarray:
        shape, dtype = self.get_tensor_shape(name), np.dtype(self._engine.get_tensor_dtype(name))
        size = math.prod(shape) * dtype.itemsize
        assert self._engine._cuda.owns(self._addresses[name])
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._addresses[name]))
        return raw.view(dtype).reshape(shape)


class ICudaEngine:
    device_memory_size_v2 = 1000

    def __init__(self, plan: dict[str, Any], cuda: FakeCuda, say: Any) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(plan["model"], options, providers=["CPUExecutionProvider"])
        self._cuda, self._say, self._broken, self._batch = cuda, say, plan["broken"], plan["batch"]
        self._contexts: list[Any] = []
        kinds = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(float16)": "float16"}

        def read(values: Any) -> dict[str, tuple[tuple[int, ...], str]]:
            return {v.name: (tuple(a if isinstance(a, int) else -1 for a in v.shape), kinds[v.type]) for v in values}

        self._inputs, self._outputs = read(self._session.get_inputs()), read(self._session.get_outputs())
        self._inputs["cam_target"] = (self._inputs["cam_target"][0], plan["target"])
        self._all = {**self._inputs, **self._outputs}

    @property
    def num_io_tensors(self) -> int:
        return len(self._all)

    def get_tensor_name(self, index: int) -> str:
        return list(self._all)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return _Mode.INPUT if name in self._inputs else _Mode.OUTPUT

    def get_tensor_location(self, name: str) -> Any:
        return _Location.DEVICE

    def get_tensor_dtype(self, name: str) -> str:
        return self._all[name][1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._all[name][0]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        first, *rest = self.get_tensor_shape(name)
        return [(size if first == -1 else first, *rest) for size in self._batch]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, strategy: Any = _Strategy.STATIC) -> IExecutionContext:
        self._contexts.append(strategy)
        return IExecutionContext(self, strategy)


class FakeTensorRt(types.ModuleType):
    """The module `tensorrt`, or with its own CUDA graphs `tensorrt_rtx`.

    engine, runtime: the last one that was loaded, and by what.
    """

    def __init__(self, name: str, cuda: FakeCuda) -> None:
        super().__init__(name)
        self.__version__ = "10.3.0"
        self.Builder = object
        self.ILogger = ILogger
        self.TensorIOMode, self.TensorLocation = _Mode, _Location
        self.ExecutionContextAllocationStrategy = _Strategy
        self.nptype = np.dtype
        if name == "tensorrt_rtx":
            self.CudaGraphStrategy = _GraphStrategy
        self.engine: Any = None
        self.runtime: Any = None
        outer = self

        class Runtime:
            engine_host_code_allowed = False

            def __init__(self, logger: Any) -> None:
                self._logger = logger

            def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
                if not serialized_engine.startswith(_MAGIC):
                    self._say("Magic tag does not match")
                    return None
                outer.runtime = self
                outer.engine = ICudaEngine(json.loads(serialized_engine[4:]), cuda, self._say)
                return outer.engine

            def _say(self, words: str) -> bool:
                self._logger.log(1, words)
                return False

        self.Runtime = Runtime
