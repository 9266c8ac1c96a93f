"""Execution contexts of one TensorRT engine: plain, with CUDA graphs of our own, or with those of TensorRT for RTX.

`tensorrt` leaves recording to the application: one context per recorded shape, since a graph has the state of
its context in it, all with the same scratch memory, since one runs at a time (developer guide, "CUDA Graphs").
`tensorrt_rtx` compiles kernels while it runs, knows when a shape is worth recording, and does it itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import EngineError, OutputError
from ...files import write_bytes
from ..options import EngineOptions
from .cuda import Cuda
from .io import release
from .packages import Package

__all__ = ["Contexts", "make_contexts"]

Shapes = Mapping[str, tuple[int, ...]]

#: So many shapes get a CUDA graph; others run without.
_MOST = 8


class Contexts:
    """One context for every shape. first: it. addresses: of all tensors on the GPU, set before the first run."""

    def __init__(self, rt: Package, cuda: Cuda, first: Any) -> None:
        if first is None:
            raise EngineError(f"{rt} cannot make an execution context: {rt.logger.messages.last}")
        self._rt, self._cuda, self.first = rt, cuda, first
        self.addresses: Mapping[str, int] = {}
        self._placed: list[Any] = []

    def execute(self, shapes: Shapes) -> Any:
        """Enqueue one inference on inputs of these shapes; the context, which knows the shapes of the outputs."""
        self._prepare(self.first, shapes)
        self._enqueue(self.first)
        return self.first

    def close(self) -> None:
        """Free the context."""
        self._placed = []
        self.first = None

    def _prepare(self, context: Any, shapes: Shapes) -> None:
        if not any(context is one for one in self._placed):
            for name, address in self.addresses.items():
                self._must(context.set_tensor_address(name, address), f"placing '{name}'")
            self._placed.append(context)
        for name, shape in shapes.items():
            if tuple(context.get_tensor_shape(name)) != shape:
                self._must(context.set_input_shape(name, shape), f"setting '{name}' to {shape}")

    def _enqueue(self, context: Any) -> None:
        self._must(context.execute_async_v3(self._cuda.stream), "running")

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{what}: {self._rt.logger.messages.last}")


class _Recorded(Contexts):
    """A context and a CUDA graph for each of the first shapes that are seen."""

    def __init__(self, rt: Package, cuda: Cuda, engine: Any) -> None:
        self._engine = engine
        self._size = engine.device_memory_size_v2
        self._scratch = {"": cuda.allocate(self._size)}
        self._graphs: dict[Any, Any] = {}
        self._owners: dict[Any, Any] = {}
        try:
            super().__init__(rt, cuda, self._context(rt))
        except BaseException:
            release(cuda.free, self._scratch)
            raise

    def execute(self, shapes: Shapes) -> Any:
        key = tuple(sorted(shapes.items()))
        if key not in self._graphs:
            if len(self._graphs) >= _MOST:
                return super().execute(shapes)
            self._record(key, shapes)
        self._cuda.replay(self._graphs[key])
        return self._owners[key]

    def close(self) -> None:
        release(self._cuda.free_graph, self._graphs)
        self._owners = {}
        super().close()
        release(self._cuda.free, self._scratch)

    def _record(self, key: Any, shapes: Shapes) -> None:
        context = self._context(self._rt)
        self._must(context is not None, "making an execution context")
        self._prepare(context, shapes)
        # A context settles its state when it first runs with a shape, which a recording must not contain.
        self._enqueue(context)
        self._cuda.synchronize()
        try:
            self._graphs[key] = self._cuda.record(lambda: self._enqueue(context))
        except EngineError as error:
            raise EngineError(f"cuda_graph: the engine cannot be recorded ({error}): open it without") from error
        self._owners[key] = context

    def _context(self, rt: Package) -> Any:
        made = self._engine.create_execution_context(rt.module.ExecutionContextAllocationStrategy.USER_MANAGED)
        if made is not None:
            made.set_device_memory(self._scratch[""], self._size)
        return made


class _Rtx(Contexts):
    """TensorRT for RTX: its own CUDA graphs, and a file that keeps the kernels that it compiles."""

    def __init__(self, rt: Package, cuda: Cuda, engine: Any, graphs: bool, file: Path | None) -> None:
        # Both have to live as long as the context.
        self._config = config = engine.create_runtime_config()
        self._file, self._cache = file, None
        strategies = rt.module.CudaGraphStrategy
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if graphs else strategies.DISABLED
        if file is not None:
            self._cache = config.create_runtime_cache()
            with contextlib.suppress(OSError):  # none yet, or none that can be read: it only saves time
                self._cache.deserialize(file.read_bytes())  # an old one is refused, and replaced on closing
            config.set_runtime_cache(self._cache)
        super().__init__(rt, cuda, engine.create_execution_context(config))

    def close(self) -> None:
        if self._file is not None and self._cache is not None:
            with contextlib.suppress(OutputError):  # it only saves time
                write_bytes(self._file, bytes(self._cache.serialize()))
        super().close()
        self._cache = self._config = None


def make_contexts(rt: Package, engine: Any, cuda: Cuda, options: EngineOptions, path: Path) -> Contexts:
    """What `options` ask for. path: of the engine, whose name the kernels' file gets. Raises `EngineError`."""
    if hasattr(rt.module, "CudaGraphStrategy"):
        file = None if options.cache is None else Path(options.cache) / f"{path.name}.kernels"
        return _Rtx(rt, cuda, engine, options.cuda_graph, file)
    if options.cache is not None:
        raise EngineError(f"cache: an engine of {rt.name} compiles nothing that could be kept")
    if options.cuda_graph:
        return _Recorded(rt, cuda, engine)
    return Contexts(rt, cuda, engine.create_execution_context())
