"""Asking TensorRT whether it takes an ONNX file, and building an engine from one, through Polygraphy's loaders.

Nothing here runs an engine. With TensorRT for RTX no GPU is needed: an engine is built ahead of time for a compute
capability.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...contract.modelfile import read_spec
from ...errors import CfcamError, EngineError, ModelFileError, OutputError
from ...files import write_bytes
from .options import BuilderOptions
from .packages import Messages, Package, load_package
from .progress import BuildProgress, make_monitor

__all__ = ["ParseProblem", "ParseResult", "build_engine", "compute_capabilities", "parse_onnx", "timing_cache_file"]

#: What the parser's log has before the path of external data that is not there.
_UNOPENED = "Failed to open file: "

#: What it has before the reason for a refusal: places in its own sources.
_PLACE = re.compile(r"^.*? In function \w+: \[\d+\] ")


@dataclass(frozen=True)
class ParseProblem:
    """Why the parser stopped. node: its name, or ``node_of_`` and its output; words: the parser's own."""

    node: str
    operator: str
    words: str

    def __str__(self) -> str:
        where = f"node '{self.node}' ({self.operator}): " if self.operator else ""
        return f"{where}{self.words}"


@dataclass(frozen=True)
class ParseResult:
    """What TensorRT's parser makes of a model; true when it takes it.

    parser: package and version. problems: what it refuses; it stops at the first node it cannot take.
    """

    parser: str
    problems: tuple[ParseProblem, ...] = ()

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        if self:
            return f"{self.parser}: accepted"
        return f"{self.parser}: refused: {'; '.join(map(str, self.problems))}"


def parse_onnx(model: str | os.PathLike[str] | bytes, package: str | None = None) -> ParseResult:
    """Let TensorRT's parser read a model.

    Args:
        model: A path, whose external data is found, or the file's bytes.
        package: "tensorrt_rtx" or "tensorrt"; None takes the one in use, or the first that is installed.

    Returns:
        Whether it takes the model, and why not.

    Raises:
        MissingDependencyError: TensorRT or Polygraphy is not installed.
        ModelFileError: It is not an ONNX file.
        EngineError: TensorRT cannot start (`tensorrt` needs its GPU).
    """
    rt = load_package(package)
    with rt.polygraphy() as (loaders, messages):
        parsed = _parsed(rt, loaders, model, messages)
    return ParseResult(str(rt), (parsed,) if isinstance(parsed, ParseProblem) else ())


def build_engine(
    path: str | os.PathLike[str],
    *,
    batch: tuple[int, int, int] = (1, 1, 8),
    compute_capability: str | None = None,
    package: str | None = None,
    options: BuilderOptions | None = None,
    timing_cache: Path | None = None,
    progress: BuildProgress | None = None,
) -> bytes:
    """Build an ONNX file into a serialised engine ("plan"). Precision is that of the file.

    A fused file is built without TF32, which rounds what float32 matrix products read: the rule compares similarities.

    Args:
        path: The file.
        batch: Smallest, best and largest batch of every input whose batch is free (an optimisation profile).
        compute_capability: Of the GPU that will run the engine, as "8.6"; None leaves it to the package: "tensorrt"
            builds for the GPU of this machine and for no other, "tensorrt_rtx" for every one from 8.0 on.
        package: As `parse_onnx`.
        options: None for the defaults.
        timing_cache: Folder that keeps timings for the next build.
        progress: Told phase and share done; what it raises stops the build.

    Returns:
        The plan.

    Raises:
        MissingDependencyError, ModelFileError: As `parse_onnx`.
        EngineError: TensorRT refuses the model, an option, or the batch; or the file is fused in the form ``cpu``.
    """
    form = _fused_form(path)
    if form == "cpu":
        raise EngineError(
            f"{path}: is fused in the form 'cpu', whose sizes come from the data: export it again with --fused-form "
            "static, or let cfcam build --fused make the product, which takes the form that fits"
        )
    rt, options = load_package(package), options or BuilderOptions()
    monitor = None if progress is None else make_monitor(rt.module, progress)
    file = None if timing_cache is None else timing_cache_file(timing_cache, rt, compute_capability)
    with rt.polygraphy() as (loaders, messages):
        from polygraphy.exception import PolygraphyException

        parsed = _parsed(rt, loaders, path, messages, strongly_typed=not _is_weakly_typed(rt, options))
        if isinstance(parsed, ParseProblem):
            raise EngineError(f"{path}: {ParseResult(str(rt), (parsed,))}")
        builder, network, _ = parsed
        profile, settings = _profile(path, loaders, network, batch), _settings(rt, options, exact=form is not None)
        try:
            with _timings(file) as timings:
                config = loaders.create_config(
                    builder,
                    network,
                    profiles=[profile],
                    load_timing_cache=timings,
                    progress_monitor=monitor,
                    **settings,
                )
            _aim(rt, builder, config, compute_capability)
            plan = bytes(loaders.engine_bytes_from_network(parsed, config=config))
        except PolygraphyException as error:
            if monitor is not None and monitor.raised is not None:
                raise monitor.raised from None
            reason = messages.last if messages.problems else " ".join(str(error).split())
            raise EngineError(f"{path}: {rt} cannot build an engine: {reason}") from error
        if file is not None:
            _keep_timings(config, file)
        return plan


def _fused_form(path: str | os.PathLike[str]) -> str | None:
    """The form of a fused file; None for every other, what is no file of ours included."""
    with contextlib.suppress(CfcamError):
        fused = read_spec(path).fused
        return None if fused is None else fused.form
    return None


def _parsed(
    rt: Package,
    loaders: Any,
    model: str | os.PathLike[str] | bytes,
    messages: Messages,
    *,
    strongly_typed: bool = True,  # precision is what the graph says
) -> tuple[Any, Any, Any] | ParseProblem:
    """(builder, network, parser), which owns the weights and has to live as long; or why the model is refused."""
    from polygraphy.exception import PolygraphyException

    name = "the model" if isinstance(model, bytes) else os.fspath(model)
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise ModelFileError(f"{name}: no such file")
    load = loaders.network_from_onnx_bytes if isinstance(model, bytes) else loaders.network_from_onnx_path
    try:
        parsed = load(model if isinstance(model, bytes) else name, strongly_typed=strongly_typed)
    except PolygraphyException:
        parsed = None
    except Exception as error:  # pybind raises TypeError with no reason when the C++ side returns null
        raise EngineError(f"{rt} cannot start: {messages.last}") from error
    if any("MODEL_DESERIALIZE_FAILED" in said for said in messages.problems):
        raise ModelFileError(f"{name}: not an ONNX file, or a truncated one")
    unopened = [said.partition(_UNOPENED)[2] for said in messages.problems if _UNOPENED in said]
    if unopened:
        raise ModelFileError(f"{name}: its external data '{unopened[0]}' cannot be opened: keep both files together")
    if parsed is None:
        node, _, operator = messages.node.removesuffix("]").rpartition(" [")
        return ParseProblem(node, operator, _PLACE.sub("", messages.last))
    if parsed[1].num_outputs == 0:  # an empty file is a valid protobuf, and parses
        raise ModelFileError(f"{name}: an ONNX model without outputs, or an empty file")
    return parsed


def _settings(rt: Package, options: BuilderOptions, exact: bool = False) -> dict[str, Any]:
    """`options` as keywords of Polygraphy's configuration. Raises `EngineError` for what the package does not have."""
    options.check(rt.name)
    module, pools, level = rt.module, None, options.hardware_compatibility
    if options.workspace_mb is not None:
        pools = {module.MemoryPoolType.WORKSPACE: options.workspace_mb * 2**20}
    sources = options.tactic_sources
    return {
        "tf32": not exact,  # True is what TensorRT does by itself
        "fp16": _is_weakly_typed(rt, options),
        "builder_optimization_level": options.optimization_level,
        "memory_pool_limits": pools,
        "version_compatible": options.version_compatible,
        "hardware_compatibility_level": None if level == "none" else _named(rt, "HardwareCompatibilityLevel", level),
        "refittable": options.refittable,
        "sparse_weights": options.sparsity,
        "tactic_sources": None if sources is None else [_named(rt, "TacticSource", one) for one in sources],
        "profiling_verbosity": _named(
            rt, "ProfilingVerbosity", "detailed" if options.detailed_profiling else "layer_names_only"
        ),
        "use_dla": options.dla,
        "allow_gpu_fallback": options.dla,
    }


def _named(rt: Package, kind: str, name: str) -> Any:
    """A member of one of TensorRT's enumerations."""
    members = getattr(rt.module, kind).__members__
    if name.upper() not in members:
        raise EngineError(f"{rt} has no {kind} '{name}': expected one of {', '.join(members).lower()}")
    return members[name.upper()]


def _is_weakly_typed(rt: Package, options: BuilderOptions) -> bool:
    """TensorRT 10 takes a DLA only with a network whose types the builder chooses; later ones with no other."""
    return options.dla and int(rt.module.__version__.partition(".")[0]) < 11


def _aim(rt: Package, builder: Any, config: Any, compute_capability: str | None) -> None:
    """What Polygraphy's configuration does not have."""
    if config.default_device_type == rt.module.DeviceType.DLA and builder.num_DLA_cores == 0:
        raise EngineError(
            f"dla: {rt} has none on this machine: AGX Orin and Orin NX have them with TensorRT up to 10.7 (JetPack 6), "
            "AGX Orin again with 11.4.1 or later (JetPack 7.2.2); leave dla out elsewhere"
        )
    if compute_capability is None:
        return
    known = _targets(rt)
    if not known:
        raise EngineError(f"{rt} builds for the GPU of this machine only: leave compute_capability out")
    if compute_capability not in known:
        raise EngineError(f"compute capability '{compute_capability}': {rt} builds for {', '.join(known)}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[compute_capability], 0)


def _profile(path: str | os.PathLike[str], loaders: Any, network: Any, batch: tuple[int, int, int]) -> Any:
    smallest, best, largest = batch
    if not 1 <= smallest <= best <= largest:
        raise EngineError(f"batch: expected 1 <= smallest <= best <= largest, got {smallest}, {best}, {largest}")
    profile = loaders.Profile()
    for value in (network.get_input(i) for i in range(network.num_inputs)):
        first, *rest = tuple(value.shape) or (1,)
        if -1 in rest:
            raise EngineError(
                f"{path}: input '{value.name}' is {(first, *rest)}: only its first dimension may be free; a file of "
                "several classes per image is exported for TensorRT with --classes-per-image K, a number"
            )
        if first == -1:
            profile.add(value.name, *((size, *rest) for size in batch))
    return profile


def compute_capabilities(package: str | None = None) -> tuple[str, ...]:
    """Those that an engine can be built for ahead of time, as "8.6"; none where it is always this machine's GPU.

    Raises as `load_package`.
    """
    return tuple(_targets(load_package(package)))


def _targets(rt: Package) -> dict[str, Any]:
    targets = getattr(rt.module, "ComputeCapability", None)
    if targets is None:
        return {}
    return {f"{name[2:-1]}.{name[-1]}": target for name, target in targets.__members__.items() if name[2:].isdigit()}


def timing_cache_file(folder: Path, rt: Package, compute_capability: str | None) -> Path | None:
    """The file in `folder` that keeps how long kernels took, for this version and target.

    TensorRT checks it once more by the header that it writes. None for TensorRT for RTX, which times nothing.
    """
    if rt.name != "tensorrt":
        return None
    target = "this-gpu" if compute_capability is None else "sm" + compute_capability.replace(".", "")
    return folder / f"{rt.name}-{rt.module.__version__}-{target}.cache"


def _timings(file: Path | None) -> contextlib.AbstractContextManager[Any]:
    if file is None or not os.access(file, os.R_OK):
        return contextlib.nullcontext()
    return file.open("rb")


def _keep_timings(config: Any, file: Path) -> None:
    """Write the builder's timings back to `file`. What cannot be kept is measured again next time, no more."""
    cache = config.get_timing_cache()
    if cache is None:  # the file was another GPU's
        file.unlink(missing_ok=True)
        return
    with contextlib.suppress(OutputError):
        write_bytes(file, bytes(cache.serialize()))
