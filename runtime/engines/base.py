"""What runs a model: the `Engine` protocol, and the one place that picks a backend.

A backend is a module with a class that follows `Engine`; it is imported only when it is asked
for. The file decides: an ONNX file is run by ONNX Runtime, a built engine ("plan") by TensorRT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from ..contract.manifest import SUFFIX, Manifest
from ..contract.modelfile import is_plan
from ..errors import EngineError, ModelFileError
from .options import PROVIDERS, EngineOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

__all__ = ["PROVIDERS", "Engine", "EngineInfo", "open_engine", "open_reference", "read_manifest"]

#: What is usual for a serialised engine, whose first bytes say so too.
_PLANS = (".engine", ".plan", ".trt")


@dataclass(frozen=True)
class EngineInfo:
    """What runs, and how.

    backend: library and version. provider: the one that really runs, by its short name; of a built
    engine, the backend's own. inputs, outputs: names in the file's order. batch: the fixed batch size, or
    None when any size, or any from min_batch to max_batch, will do (max_batch None: there is no largest).
    """

    backend: str
    provider: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batch: int | None = None
    min_batch: int = 1
    max_batch: int | None = None


class Engine(Protocol):
    """A loaded model. `infer` may be called from several threads at once; what it returns is the caller's."""

    def describe(self) -> EngineInfo:
        """What runs, and how."""
        ...

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run once. outputs: names to compute, None for all. Raises `EngineError`.

        Integers are cast to the type of the input, int64 or int32.
        """
        ...

    def close(self) -> None:
        """Free the model. Calling it again does nothing; `infer` raises afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_engine(
    path: str | os.PathLike[str],
    provider: str | None = None,
    allow_fallback: bool | None = None,
    threads: int | None = None,
    *,
    options: EngineOptions | Mapping[str, Any] | None = None,
    manifest: Manifest | None = None,
) -> Engine:
    """Load the model at `path`: any ONNX file, or what `cfcam build` made.

    provider (a key of `PROVIDERS`), allow_fallback, threads: win over `options`; see `EngineOptions`.
    allow_fallback is needed because ONNX Runtime itself changes over silently: without it, a provider
    that cannot start is an error. options: those of the manifest where None (for another provider without what only
    its own understands), and without one the defaults.
    manifest: of the file, if it has been read and checked already; None reads and checks it.
    Raises `EngineError`, `ManifestError`, `ModelFileError` for a missing file, and `MissingDependencyError`.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: is a folder" if path.is_dir() else f"{path}: no such file")
    if manifest is None:
        manifest = read_manifest(path)
    if options is None:
        options = EngineOptions() if manifest is None else manifest.engine_options
        if provider is not None and not (manifest is not None and manifest.is_engine):
            options = options.on(provider)
    elif not isinstance(options, EngineOptions):
        options = EngineOptions.from_dict(options)
    if manifest is not None and manifest.is_engine:
        name = manifest.backend.name
        if provider not in (None, name):
            raise EngineError(f"{path}: is an engine of {name} and runs on nothing else, got the provider '{provider}'")
        from .tensorrt.engine import TensorRtEngine

        return TensorRtEngine(path, name, options, host_code=manifest.is_version_compatible)
    from .onnxruntime.engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, options.but(provider=provider, allow_fallback=allow_fallback, threads=threads))


def open_reference(path: str | os.PathLike[str], threads: int | None = None) -> Engine:
    """The ONNX file in float32 on the CPU, whatever its manifest says: what other engines are judged against.

    Raises as `open_engine`, and `EngineError` for a file in another precision.
    """
    from ..contract.modelfile import read_spec

    precision = read_spec(path).precision
    if precision != "float32":
        raise EngineError(f"{os.fspath(path)}: is in {precision}; the reference must be in float32")
    return open_engine(path, options=EngineOptions(threads=threads))


def read_manifest(path: str | os.PathLike[str], *, machine: bool = True) -> Manifest | None:
    """The manifest beside `path`, checked; None beside an ONNX file without one.

    machine: also check that an engine can run on this machine.
    Raises `ManifestError`, and for an engine `ModelFileError` where it has no manifest, `EngineError` and
    `MissingDependencyError` where GPU or TensorRT are missing.
    """
    path = Path(path)
    manifest = Manifest.read(path)
    if manifest is not None:
        manifest.check(path, machine=machine)
    elif is_plan(path) or path.suffix.lower() in _PLANS:
        raise ModelFileError(
            f"{path}: is an engine of TensorRT, of which nothing is known without {path.name + SUFFIX} beside it: copy "
            "that too, or build it again with `cfcam build`"
        )
    return manifest
