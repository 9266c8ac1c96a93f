"""The manifest of an engine that another tool built from a graph of ours.

`cfcam build --onnx-only` leaves the engine to NVIDIA's command-line builder, on the device. What it builds says nothing
about itself; the graph's manifest says the rest.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord, Target
from ...contract.modelfile import read_spec
from ...errors import EngineError, ManifestError
from ..opening import open_engine
from ..options import EngineOptions
from .packages import PACKAGES, load_package

__all__ = ["adopt_engine"]


def adopt_engine(engine: str | os.PathLike[str], graph: str | os.PathLike[str]) -> Manifest:
    """Write the manifest of `engine`, which was built on this machine from the product `graph`.

    It is opened, to see that it fits. The gate's figures are the graph's, and say so.
    Raises `ManifestError` for a graph without manifest or for another backend, `EngineError` for an engine that cannot
    be opened or has other inputs and outputs, and `MissingDependencyError` and `ModelFileError` as opening does.
    """
    path, source = Path(engine), Path(graph)
    told = Manifest.read(source)
    if told is None:
        raise ManifestError(f"{source}: has no manifest beside it: give the graph that `cfcam build --onnx-only` wrote")
    told.check(source)
    backend: Any = told.config.get("backend")
    if backend not in PACKAGES:
        raise ManifestError(f"{source}: was built for the backend '{backend}', which needs no engine: use the graph")
    manifest = replace(
        told,
        product=ProductRecord.of(path),
        graph=FileRecord.of(source),
        backend=BackendRecord(name=backend, version=load_package(backend).module.__version__),
        engine=EngineOptions.from_dict(told.config.get("engine", {})).to_dict(),
        gate=None if told.gate is None else {**told.gate, "ran_on": f"{source.name}, not the engine"},
    )
    if backend == "tensorrt":  # those of TensorRT for RTX run on other GPUs too
        from .cuda import find_gpu

        gpu = find_gpu(manifest.engine_options.device_id)
        compatibility = told.config.get("builder", {}).get("hardware_compatibility", "none")
        manifest = replace(manifest, target=Target.of(gpu, compatibility))
    with open_engine(path, manifest=manifest) as opened:
        info = opened.describe()
    spec = read_spec(source)
    wanted = {*spec.inputs, spec.output.name, *spec.added_outputs}
    missing = sorted(wanted - {*info.inputs, *info.outputs})
    if missing:
        raise EngineError(f"{path}: was not built from {source.name}: it has no {', '.join(map(repr, missing))}")
    manifest.write(path)
    return manifest
