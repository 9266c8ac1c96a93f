"""Running a model in ONNX Runtime while it is being exported."""

from __future__ import annotations

import ctypes
import gc
import glob
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.bench.memory import resident
from ...runtime.engines.onnxruntime.words import log_severity, refusal
from ...runtime.engines.onnxruntime.workarounds import processor_workarounds, session_workarounds
from ...runtime.errors import MissingDependencyError
from ...runtime.files import scratch_folder
from ..errors import ExportError
from ..graph.loading import tensor_bytes
from ..writing import write_model

__all__ = ["Session", "release_memory"]

#: From so many bytes of weights on a model is large, and so much memory worth giving back.
_LARGE = 2**25


#: Bytes that the process held after the last release.
_held = 0


def release_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it for itself (glibc does).

    Not where there is little to give: a collection takes longer than a small network's whole proof.
    """
    global _held
    held = resident()
    if held is not None and held - _held < _LARGE:
        _held = min(_held, held)
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
    _held = resident() or 0


def _is_large(model: onnx.ModelProto | str) -> bool:
    """Whether its weights are worth a thought; of a file, with those in files beside it that begin with its name."""
    if isinstance(model, str):
        path = Path(model)
        weights = (other.stat().st_size for other in path.parent.glob(f"{glob.escape(path.name)}*"))
    else:
        weights = (tensor_bytes(tensor) for tensor in model.graph.initializer)
    return sum(weights) >= _LARGE


@contextmanager
def _readable(model: onnx.ModelProto | str, large: bool) -> Iterator[str | bytes]:
    """The model as ONNX Runtime takes it: a large one by way of a file, so that its weights are not held once more."""
    if isinstance(model, str):
        yield model
    elif not large:
        yield model.SerializeToString()
    else:
        with scratch_folder() as folder:
            path = os.path.join(folder, "model.onnx")
            write_model(model, path)
            yield path


class Session:
    """A CPU session on a model that is in memory or in a file.

    optimise: False runs each node as it stands. entries: of the session; None for those that the file needs.
    Raises `MissingDependencyError` without ONNX Runtime, `ExportError` when it refuses the model.
    """

    def __init__(
        self,
        model: onnx.ModelProto | str,
        *,
        threads: int | None = None,
        optimise: bool = True,
        entries: Mapping[str, str] | None = None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                "proving an export needs ONNX Runtime: install cfcam[cpu] or cfcam[gpu]"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = log_severity()
        if threads is not None:
            options.intra_op_num_threads = threads
        if entries is None:
            entries = session_workarounds(Path(model)) if isinstance(model, str) else processor_workarounds()
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        large = _is_large(model)
        try:
            with _readable(model, large) as source:
                self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(f"ONNX Runtime refuses the graph: {refusal(error)}") from error
        if large:
            release_memory()  # loading leaves the weights in their old form behind
        self.inputs = [value.name for value in self._session.get_inputs()]
        numbers = (v for v in self._session.get_outputs() if v.type.startswith("tensor(") and "string" not in v.type)
        self.outputs = [value.name for value in numbers]

    def run_in_batches(self, feeds: Mapping[str, NDArray[Any]], size: int) -> dict[str, NDArray[np.generic]]:
        """`run` on `size` rows of every input at a time; of the feeds, those that the model takes."""
        taken = {name: feeds[name] for name in self.inputs if name in feeds}
        count = len(next(iter(taken.values())))
        parts = [self.run({n: v[i : i + size] for n, v in taken.items()}) for i in range(0, count, size)]
        return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in self.outputs}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """All outputs that are tensors of numbers, by name. Raises `ExportError` with the backend's words."""
        if not self.outputs:
            return {}  # ONNX Runtime takes no names for all of them
        try:
            values = self._session.run(self.outputs, dict(feeds))
        except Exception as error:
            raise ExportError(f"ONNX Runtime cannot run the graph: {refusal(error)}") from error
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}
