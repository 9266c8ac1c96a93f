"""Running a session of ONNX Runtime on buffers that stay where they are.

A CUDA graph replays its work on the same addresses, so inputs and outputs need buffers of their own
(onnxruntime.ai/docs/performance/tune-performance/iobinding.html). On the CPU they bring nothing. ONNX Runtime
keeps a graph with the thread that recorded it, so one thread runs all of them
(onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html, "Using CUDA Graphs").
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError

__all__ = ["BoundSession"]

#: So many kinds of call get buffers, and with it a CUDA graph; others run without.
_MOST = 8
#: Run option: which of several graphs, or -1 for none.
_GRAPH = "gpu_graph_id"


@dataclass
class _Buffers:
    binding: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    options: Any


class BoundSession:
    """One session, and buffers for every kind of call: shapes of the inputs and names of the outputs.

    device: ``cpu`` or ``cuda``. graphs: None where the session records no CUDA graphs, "one" where it records one
    whatever the call, "many" where a run option says which.
    The buffers are shared, so calls from several threads take turns, and every result is a copy.
    """

    def __init__(
        self, ort: Any, session: Any, device: str, device_id: int, graphs: Literal["one", "many"] | None
    ) -> None:
        self._ort, self._session, self._where, self._graphs = ort, session, (device, device_id), graphs
        self._kinds: dict[Any, _Buffers] = {}
        self._lock = threading.Lock()
        self._thread = None if graphs is None else ThreadPoolExecutor(1, "onnxruntime")

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs `names`. Raises what ONNX Runtime raises, and `EngineError` for what the one graph is not of."""
        if self._thread is not None:
            return self._thread.submit(self._run, names, feed).result()
        with self._lock:
            return self._run(names, feed)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()

    def _run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        shapes = tuple(sorted((name, value.shape, value.dtype.str) for name, value in feed.items()))
        kind = (tuple(names), shapes)
        buffers = self._kinds.get(kind)
        if buffers is None:
            if self._graphs == "one" and self._kinds:
                known = next(iter(self._kinds))
                raise EngineError(
                    f"cuda_graph: this provider records one graph, of {known}, and cannot run {kind}: "
                    "leave cuda_graph out"
                )
            # The first call says how large the outputs are. It records no graph, which would fix addresses.
            values = self._session.run(list(names), dict(feed), self._run_options(-1))
            if len(self._kinds) < _MOST:
                self._kinds[kind] = self._bind(feed, dict(zip(names, values, strict=True)))
            return [np.asarray(value) for value in values]
        for name, value in feed.items():
            buffers.inputs[name].update_inplace(np.ascontiguousarray(value))
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        # On the CPU the array may be the buffer itself.
        return [np.array(buffers.outputs[name].numpy()) for name in names]

    def _bind(self, feed: Mapping[str, NDArray[Any]], results: Mapping[str, NDArray[Any]]) -> _Buffers:
        make = self._ort.OrtValue
        inputs = {name: make.ortvalue_from_numpy(np.array(value), *self._where) for name, value in feed.items()}
        outputs = {
            name: make.ortvalue_from_shape_and_type(value.shape, value.dtype.type, *self._where)
            for name, value in results.items()
        }
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return _Buffers(binding, inputs, outputs, self._run_options(len(self._kinds) + 1))

    def _run_options(self, graph: int) -> Any:
        options = self._ort.RunOptions()
        if self._graphs == "many":
            options.add_run_config_entry(_GRAPH, str(graph))
        return options
