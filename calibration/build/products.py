"""The files of a build, and the manifest of each product."""

from __future__ import annotations

import datetime
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...export.graph.loading import load_model
from ...export.writing import set_spec, tool_versions, write_model
from ...runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord, Target
from ...runtime.contract.modelfile import read_spec
from ...runtime.engines.options import EngineOptions
from ...runtime.methods.layer_fusion import own_form
from .config import BuildConfig
from .job import Job
from .photos import CalibrationPhotos
from .trtexec import trtexec_script

__all__ = ["Product", "finish_graph", "graph_product", "make_engine", "write_command"]


@dataclass(frozen=True)
class Product:
    """A file that is handed over. path: in the staging folder. target: of an engine. graph: it was built from."""

    path: Path
    backend: BackendRecord
    target: Target | None = None
    graph: FileRecord | None = None

    def write_manifest(self, job: Job, calibration: CalibrationPhotos | None, gate: dict[str, Any] | None) -> Manifest:
        """Write what is known beside the product. gate: what it said; None where nothing was judged."""
        config, spec = job.config, read_spec(self.path.with_name(job.graph_name))
        form = own_form(spec)
        for_another_machine = config.builds_engines and self.graph is None
        learnt = config.plan.calibrator if config.plan.quantised else "means of channels"
        manifest = Manifest(
            product=ProductRecord.of(self.path),
            source=FileRecord.of(job.source),
            graph=self.graph,
            backend=self.backend,
            target=self.target,
            precision=spec.precision,
            config={"name": job.config_name, **config.model_dump(mode="json")},
            # The configuration's are for its engine, not for ONNX Runtime on the graph.
            engine=(EngineOptions() if for_another_machine else config.engine_options).to_dict(),
            spec=spec.to_dict(),
            calibration=None if calibration is None else calibration.record(learnt),
            gate=gate,
            form=None if form is None else form.to_dict(),
            tools=tool_versions("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "Pillow"),
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )
        if for_another_machine:
            manifest = Manifest.from_dict({**manifest.to_dict(), "trtexec": shlex.join(job.command)})
        manifest.write(self.path)
        return manifest


def finish_graph(job: Job, graph: Path) -> None:
    """Put the configuration's method into `graph`; one that is fused has it already."""
    method = job.config.method
    if method is not None and not job.fused:
        model = load_model(graph)
        set_spec(model, read_spec(graph).with_method(method.name, method.settings))
        write_model(model, graph)


def graph_product(job: Job, graph: Path) -> Product:
    """The graph as what is handed over, to run in ONNX Runtime."""
    import onnxruntime

    provider = job.config.engine_options.provider if job.config.backend == "onnxruntime" else "cpu"
    return Product(graph, BackendRecord(name="onnxruntime", version=onnxruntime.__version__, provider=provider))


def make_engine(job: Job, graph: Path, target: str | None, timing_cache: Path | None, progress: Any = None) -> Product:
    """Build `graph` into an engine for `target`, beside it. Raises `EngineError`."""
    from ...runtime.engines.tensorrt.build import build_engine, compute_capabilities
    from ...runtime.engines.tensorrt.packages import load_package

    config = job.config
    ahead = target if target in compute_capabilities(config.backend) else None
    plan = build_engine(
        graph,
        batch=job.batch,
        compute_capability=ahead,
        package=config.backend,
        options=config.builder_options,
        timing_cache=timing_cache,
        progress=progress,
    )
    path = graph.with_name(job.engine_name(target))
    path.write_bytes(plan)
    version = load_package(config.backend).module.__version__
    return Product(
        path,
        BackendRecord(name=config.backend, version=version),  # type: ignore[arg-type] - one of the two packages
        _target(config, ahead),
        FileRecord.of(graph),
    )


def write_command(job: Job, graph: Path) -> None:
    """The command that builds the engine, as a script beside the graph."""
    script = graph.with_name(job.script_name)
    script.write_text(trtexec_script(job.command))
    script.chmod(0o755)


def _target(config: BuildConfig, ahead: str | None) -> Target | None:
    """What the engine runs on; None for any GPU from 8.0 on, as TensorRT for RTX builds without a target."""
    if ahead is not None:
        return Target(compute_capability=ahead)
    if config.backend == "tensorrt_rtx":
        return None
    from ...runtime.engines.tensorrt.cuda import find_gpu

    gpu = find_gpu(config.engine_options.device_id)
    return Target.of(gpu, config.builder_options.hardware_compatibility)
