"""What one build is to make, once it is sure that it can: everything that is absent is said before any work."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...export.fused.plan import FusedPlan, plan_fused
from ...runtime.contract.modelfile import ModelInfo, read_model_info, read_spec
from ...runtime.contract.spec import CamSpec
from ...runtime.engines.options import full_name
from ...runtime.errors import CfcamError, EngineError, MissingDependencyError, ModelFileError, OutputError
from ...runtime.methods import get_method, make_settings
from ...runtime.methods.layer_fusion import settings_for
from .config import BuildConfig
from .nodes import refuse_unknown_nodes
from .staging import check_folder
from .trtexec import trtexec_command

__all__ = ["Job", "make_job"]


_TURING = "7.5"


@dataclass(frozen=True)
class Job:
    """One explained file, one configuration, one folder.

    source: the file, float32. info: its head. config_name: what products are named after. output: the folder.
    targets: compute capabilities to build an engine for, None for this machine's GPU; empty where the graph is the
    product. batch: smallest, best, largest. command: how another machine builds the engine; empty where it is built
    here or none is needed. fused: whether the method is part of the product's graph.
    """

    source: Path
    spec: CamSpec
    info: ModelInfo
    config_name: str
    config: BuildConfig
    output: Path
    targets: tuple[str | None, ...]
    command: tuple[str, ...]
    fused: bool = False

    @property
    def stem(self) -> str:
        """What all names of this build start with."""
        return f"{_stem(self.source)}.{self.config_name}"

    @property
    def graph_name(self) -> str:
        return f"{self.stem}.onnx"

    @property
    def script_name(self) -> str:
        return f"{self.stem}.trtexec.sh"

    def engine_name(self, target: str | None) -> str:
        """Of the engine for `target`, one of `targets`."""
        infix = f".sm{target.replace('.', '')}" if len(self.targets) > 1 and target is not None else ""
        return f"{self.stem}{infix}.engine"

    @property
    def verified_method(self) -> tuple[str, Any]:
        """The rule that the gate compares by, and its settings: the product's method; cfcam where that is a probe."""
        asked = self.config.method or self.spec.method
        return (asked.name, asked.settings) if get_method(asked.name).kind == "rule" else ("cfcam", None)

    def plan_rule(self, spec: CamSpec) -> FusedPlan:
        """What a fused product's graph computes from what a file with this spec would give out: in the form ``cpu``
        where it is to run there in ONNX Runtime, whatever the source's form is. Raises `ExportError`."""
        own, method = self.spec.fused, self.config.method
        on_cpu = self.config.backend == "onnxruntime" and self.config.engine_options.provider == "cpu"
        return plan_fused(
            spec,
            "cpu" if on_cpu else "static",
            map_size="input" if own is None else own.map_size,
            method=None if method is None else method.name,
            settings=None if method is None else method.settings,
            labels=own is not None and own.labels is not None,
        )

    @property
    def fixed_batch(self) -> int | None:
        """The file's batch, or None when any size will do."""
        image = next(value for value in self.info.inputs if value.name == self.spec.input.name)
        size = image.shape[0] if image.shape else None
        return size if isinstance(size, int) else None

    @property
    def batch(self) -> tuple[int, int, int]:
        fixed = self.fixed_batch
        return self.config.batch.sizes if fixed is None else (fixed, fixed, fixed)


def make_job(
    source: Path,
    config_name: str,
    config: BuildConfig,
    output: Path,
    *,
    onnx_only: bool = False,
    fused: bool = False,
) -> Job:
    """Check that `source` can be built as `config` says, on this machine and into the folder `output`.

    onnx_only: leave the engine to another machine. fused: make the method part of the product's graph, as it is in
    products of a fused source in any case. Raises `ModelFileError`, `SpecError`, `MissingDependencyError`,
    `EngineError`, `OutputError`, and where nothing can be fused `ExportError` and `MethodError`.
    """
    spec, info = read_spec(source), read_model_info(source)
    if spec.precision != "float32":
        raise ModelFileError(
            f"{source}: its precision is {spec.precision}; give the float32 file, which is lowered here and is "
            "what explanations are compared with"
        )
    if spec.fixed_target is not None:
        raise ModelFileError(
            f"{source}: has a fixed target, and a product is proved by other classes too: export the model without "
            "--fixed-target and build that"
        )
    fused = fused or spec.fused is not None
    if fused:
        _check_fused(source, spec, config_name, config)
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingDependencyError("building needs ONNX Runtime: install cfcam[cpu] or cfcam[gpu]")
    full_name(config.engine_options.provider)
    refuse_unknown_nodes(source, spec, config.plan.float_nodes)
    command: tuple[str, ...] = ()
    targets: tuple[str | None, ...] = ()
    stem = f"{_stem(source)}.{config_name}"
    if config.builds_engines and onnx_only:
        command = tuple(trtexec_command(f"{stem}.onnx", f"{stem}.engine", info.inputs, config, exact=fused))
    elif config.builds_engines:
        targets = _targets(config_name, config)
    product = output / f"{stem}.onnx"
    if product.exists() and product.samefile(source):
        raise OutputError(f"{product}: is the file that is read; write to another folder, or rename the configuration")
    check_folder(output)
    job = Job(source, spec, info, config_name, config, output, targets, command, fused)
    if fused:
        job.plan_rule(spec.two_stage)
    return job


def _check_fused(source: Path, spec: CamSpec, config_name: str, config: BuildConfig) -> None:
    """Raise `ModelFileError` where a fused file is to get another method, `EngineError` for a DLA."""
    if config.builder.dla:  # type: ignore[attr-defined]
        raise EngineError(
            f"configuration '{config_name}': a DLA computes in float16, and the method of a fused product needs "
            "float32: leave --fused out and give the file that is exported without it, or take a configuration without "
            "builder.dla"
        )
    if config.backend == "tensorrt_rtx" and _TURING in config.builder.compute_capability:
        raise EngineError(
            f"configuration '{config_name}': TensorRT for RTX has no float32 matrix products for compute capability "
            f"{_TURING} (RTX 20), which the method of a fused product needs: take {_TURING} out of "
            "builder.compute_capability in a copy of the configuration, or build without --fused from the file that is "
            "exported without it"
        )
    if spec.fused is None or config.method is None:
        return
    own, asked = (
        (one.name, settings_for(make_settings(get_method(one.name), one.settings), spec.layer))
        for one in (spec.method, config.method)
    )
    if own != asked:
        raise ModelFileError(
            f"{source}: is fused with method '{own[0]}' and settings of its own, and configuration '{config_name}' "
            f"asks for '{asked[0]}' with others: take 'method' out of the configuration, or build the file that is "
            "exported without --fused, with --fused here"
        )


def _stem(source: Path) -> str:
    return source.name.removesuffix(".onnx").removesuffix(".cam")


def _targets(config_name: str, config: BuildConfig) -> tuple[str | None, ...]:
    """What engines are built for. Raises when TensorRT is missing, or does not build for that here."""
    from ...runtime.engines.tensorrt.build import compute_capabilities

    wanted = config.builder.compute_capability
    elsewhere = (
        "give --onnx-only, which writes the ready graph and the exact command that builds the engine on the target"
    )
    try:
        known = compute_capabilities(config.backend)
    except MissingDependencyError as error:
        raise MissingDependencyError(f"configuration '{config_name}': {error}; or {elsewhere}") from error
    if not wanted:
        return (None,)
    if known:
        unknown = [target for target in wanted if target not in known]
        if unknown:
            raise EngineError(
                f"configuration '{config_name}': {config.backend} builds for {', '.join(known)}, not for "
                f"compute capability {', '.join(unknown)}"
            )
        return wanted
    # An engine comes into being on the GPU that it is for.
    from ...runtime.engines.tensorrt.cuda import find_gpu

    try:
        gpu = find_gpu(config.engine_options.device_id)
    except CfcamError as error:
        raise EngineError(
            f"configuration '{config_name}': {config.backend} builds on the GPU that it builds for, and none can be "
            f"asked here ({error}): {elsewhere}"
        ) from error
    if gpu.compute_capability not in wanted:
        raise EngineError(
            f"configuration '{config_name}' is for compute capability {', '.join(wanted)}, but the GPU here "
            f"({gpu.name}) has {gpu.compute_capability}, and {config.backend} builds for no other: {elsewhere}"
        )
    return (gpu.compute_capability,)
