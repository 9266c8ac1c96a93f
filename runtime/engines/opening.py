"""Opening a model: the one place that picks a backend.

The file decides: ONNX Runtime runs an ONNX file, TensorRT a built engine ("plan"). A backend is a module with a
class that follows `Engine`, imported only when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..checks import check_path, expect
from ..contract.manifest import SUFFIX, Manifest
from ..contract.modelfile import is_plan
from ..errors import EngineError, ModelFileError
from .base import Engine
from .options import EngineOptions

__all__ = ["open_engine", "read_manifest"]

#: What is usual for a serialised engine, whose first bytes say so too.
_PLANS = (".engine", ".plan", ".trt")


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

    Args:
        path: The file.
        provider: A key of `PROVIDERS`; None for what the options say. A TensorRT engine runs on nothing else.
        allow_fallback: Take the CPU when the provider cannot start, which is an error otherwise: ONNX Runtime
            itself would change over silently.
        threads: For the operators on the CPU. These three win over `options` where they are not None.
        options: Everything that can be set. None for the manifest's (for another provider without what only
            its own understands), or the defaults where there is no manifest.
        manifest: The file's, if it has been read and checked already; None reads and checks it.

    Returns:
        The open engine, which the caller closes.

    Raises:
        EngineError: The provider or the options cannot be used, or the backend cannot load the file.
        ManifestError: The manifest beside the file does not validate, or describes another file.
        ModelFileError: There is no such file, or it is a TensorRT engine without its manifest.
        MissingDependencyError: The backend is not installed.
    """
    path = check_path("open_engine", path, ModelFileError)
    for name, value, kinds in (
        ("provider", provider, (str, None)),
        ("allow_fallback", allow_fallback, (bool, None)),
        ("threads", threads, (int, None)),
        ("options", options, (EngineOptions, Mapping, None)),
        ("manifest", manifest, (Manifest, None)),
    ):
        expect("open_engine", name, value, *kinds, error=EngineError)
    try:
        is_file = path.is_file()
    except OSError as error:  # a name that is too long
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not is_file:
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


def read_manifest(path: str | os.PathLike[str], *, machine: bool = True) -> Manifest | None:
    """The manifest beside a model, checked.

    Args:
        path: The model.
        machine: Also check that a TensorRT engine can run on this machine.

    Returns:
        The manifest, or None where an ONNX file has none.

    Raises:
        ManifestError: It does not validate, describes another file, or another machine.
        ModelFileError: A TensorRT engine has no manifest.
        EngineError: A TensorRT engine needs a GPU that is not there.
        MissingDependencyError: A TensorRT engine needs a TensorRT that is not installed.
    """
    path = check_path("read_manifest", path, ModelFileError)
    manifest = Manifest.read(path)
    if manifest is not None:
        manifest.check(path, machine=machine)
    elif is_plan(path) or path.suffix.lower() in _PLANS:
        raise ModelFileError(
            f"{path}: is a TensorRT engine, of which nothing is known without {path.name + SUFFIX} beside it: copy "
            "that too, or build it again with `cfcam build`"
        )
    return manifest
