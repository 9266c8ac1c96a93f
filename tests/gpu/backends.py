"""Every way to run an explained file on this machine's GPU, and what is missing for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cfcam.runtime import Engine, EngineOptions, open_engine
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord, Target
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.options import PROVIDERS
from cfcam.runtime.engines.tensorrt.build import build_engine
from cfcam.runtime.engines.tensorrt.cuda import find_gpu
from cfcam.runtime.engines.tensorrt.packages import load_package
from cfcam.runtime.errors import MissingDependencyError

__all__ = ["BACKENDS", "PROFILE", "open_on", "prepared"]

#: "provider:..." is ONNX Runtime's, "engine:..." a built engine.
BACKENDS = ("provider:cuda", "provider:tensorrt", "provider:rtx", "engine:tensorrt", "engine:tensorrt_rtx")

#: Smallest, best and largest batch of the engines.
PROFILE = (1, 2, 4)


def prepared(backend: str, model: Path, folder: Path, options: EngineOptions) -> tuple[Path, EngineOptions]:
    """(file, options) to open `model` with. Skips the test, with the reason, where the backend is not installed."""
    kind, name = backend.split(":")
    if kind == "provider":
        import onnxruntime

        if PROVIDERS[name] not in onnxruntime.get_available_providers():
            pytest.skip(f"NOT RUN: onnxruntime {onnxruntime.__version__} has no {PROVIDERS[name]}")
        # Without TensorFloat-32, whose ten bits of mantissa hide differences of other kinds.
        exact: dict[str, Any] = {"use_tf32": 0} if name == "cuda" else {}
        return model, options.but(provider=name, provider_options=exact)
    return _built(name, model, folder, options), options


def open_on(backend: str, model: Path, folder: Path, **options: Any) -> Engine:
    """`model` on `backend`, or the test is skipped."""
    path, chosen = prepared(backend, model, folder, EngineOptions(**options))
    return open_engine(path, options=chosen)


def _built(package: str, model: Path, folder: Path, options: EngineOptions) -> Path:
    """An engine of `model` for this GPU, built once per folder, with a manifest that asks for `options`."""
    try:
        rt = load_package(package)
    except MissingDependencyError as error:
        pytest.skip(f"NOT RUN: {error}")
    gpu, path = find_gpu(), folder / f"{model.name}.{package}.engine"
    if not path.exists():
        path.write_bytes(build_engine(model, batch=PROFILE, package=package, **_aimed(package, gpu.compute_capability)))
    Manifest(
        product=ProductRecord.of(path),
        source=FileRecord.of(model),
        backend=BackendRecord(name=package, version=rt.module.__version__),  # type: ignore[arg-type]
        target=Target(compute_capability=gpu.compute_capability, gpu=gpu.name if package == "tensorrt" else None),
        precision="float32",
        engine=options.to_dict(),
        spec=read_spec(model).to_dict(),
        created="2026-01-01T00:00:00+00:00",
    ).write(path)
    return path


def _aimed(package: str, capability: str) -> dict[str, Any]:
    """An engine of TensorRT for RTX is built for one capability where it knows it, else for all from 8.0 on."""
    known = getattr(load_package(package).module, "ComputeCapability", None)
    name = f"SM{capability.replace('.', '')}"
    return {"compute_capability": capability} if known is not None and name in known.__members__ else {}
