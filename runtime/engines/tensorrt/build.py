"""Asking TensorRT whether it takes an ONNX file, and building an engine from one.

The build phase in TensorRT's terms; nothing here runs an engine. With TensorRT for RTX no GPU is
needed: an engine is built ahead of time for a compute capability.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import EngineError, ModelFileError
from .packages import Flavour, Messages, load_flavour
from .progress import BuildProgress, make_monitor
from .timing_cache import attach_timing_cache, keep_timing_cache, timing_cache_file

__all__ = ["ParseProblem", "ParseResult", "build_engine", "compute_capabilities", "parse_onnx"]

#: What the parser's log has before the path of external data that is not there.
_UNOPENED = "Failed to open file: "


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

    parser: package and version. problems: what it refuses; it stops at the first node it cannot
    take, so there is rarely more than one.
    """

    parser: str
    problems: tuple[ParseProblem, ...] = ()

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        if self:
            return f"{self.parser}: accepted"
        return f"{self.parser}: refused: {'; '.join(map(str, self.problems))}"


def parse_onnx(model: str | os.PathLike[str] | bytes, flavour: str | None = None) -> ParseResult:
    """Let TensorRT's parser read `model`: a path (whose external data is found), or the file's bytes.

    flavour: "tensorrt_rtx" or "tensorrt"; None takes the first that is installed.
    Raises `MissingDependencyError`, `ModelFileError` for what is no ONNX file, and `EngineError`
    where TensorRT cannot start (the flavour "tensorrt" needs its GPU).
    """
    rt = load_flavour(flavour)
    with rt.listen() as messages, _parsed(rt, model, messages) as (_, _, problems):
        return ParseResult(str(rt), problems)


def build_engine(
    path: str | os.PathLike[str],
    *,
    batch: tuple[int, int, int] = (1, 1, 8),
    compute_capability: str | None = None,
    flavour: str | None = None,
    optimization_level: int | None = None,
    workspace_mb: int | None = None,
    timing_cache: Path | None = None,
    progress: BuildProgress | None = None,
) -> bytes:
    """Build the ONNX file `path` into a serialised engine ("plan").

    batch: smallest, best and largest batch of every input whose batch is free; TensorRT calls this
    an optimisation profile. compute_capability: of the GPU that will run the engine, as "8.6";
    None leaves it to the flavour: "tensorrt" builds for the GPU of this machine and for no other,
    "tensorrt_rtx" for every one from 8.0 on. Precision is that of the file.
    optimization_level: 0 to 5, how long TensorRT looks for fast kernels; workspace_mb: scratch memory
    that it may use, MiB; None leaves both to TensorRT. timing_cache: folder that keeps timings for the
    next build. progress: told phase and share done; what it raises stops the build.
    Raises `MissingDependencyError`, `ModelFileError` for what is no ONNX file, and `EngineError`
    for a model that TensorRT refuses.
    """
    rt = load_flavour(flavour)
    with rt.listen() as messages, _parsed(rt, path, messages) as (builder, network, problems):
        if problems:
            raise EngineError(f"{path}: {ParseResult(str(rt), problems)}")
        config = builder.create_builder_config()
        if compute_capability is not None:
            _aim(rt, config, compute_capability)
        _add_profile(path, builder, network, config, batch)
        if optimization_level is not None:
            config.builder_optimization_level = optimization_level
        if workspace_mb is not None:
            config.set_memory_pool_limit(rt.module.MemoryPoolType.WORKSPACE, workspace_mb * 2**20)
        file = None if timing_cache is None else timing_cache_file(timing_cache, rt, compute_capability)
        if file is not None:
            attach_timing_cache(config, file)
        monitor = None if progress is None else make_monitor(rt.module, progress)
        if monitor is not None:
            config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if monitor is not None and monitor.raised is not None:
            raise monitor.raised
        if file is not None:
            keep_timing_cache(config, file)
        if plan is None:
            raise EngineError(f"{path}: {rt} cannot build an engine: {_last_words(messages)}")
        return bytes(plan)


@contextmanager
def _parsed(
    rt: Flavour, model: str | os.PathLike[str] | bytes, messages: Messages
) -> Iterator[tuple[Any, Any, tuple[ParseProblem, ...]]]:
    """Yield (builder, network, problems). The parser owns the weights, so it lives as long as the block."""
    name = "the model" if isinstance(model, bytes) else os.fspath(model)
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise ModelFileError(f"{name}: no such file")
    try:
        builder = rt.module.Builder(rt.logger)
    except Exception as error:  # pybind raises TypeError with no reason when the C++ side returns null
        raise EngineError(f"{rt} cannot start: {_last_words(messages)}") from error
    # Precision is what the graph says. TensorRT 11 knows no other way, 10 has to be asked.
    strongly_typed = 1 << int(rt.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = rt.module.OnnxParser(network, rt.logger)
    accepted = parser.parse(model) if isinstance(model, bytes) else parser.parse_from_file(name)
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    if any(error.code() == rt.module.ErrorCode.MODEL_DESERIALIZE_FAILED for error in errors):
        raise ModelFileError(f"{name}: not an ONNX file, or a truncated one")
    unopened = [said.partition(_UNOPENED)[2] for said in messages.problems if _UNOPENED in said]
    if unopened:
        raise ModelFileError(f"{name}: its external data '{unopened[0]}' cannot be opened: keep both files together")
    if accepted and network.num_outputs == 0:  # an empty file is a valid protobuf, and parses
        raise ModelFileError(f"{name}: an ONNX model without outputs, or an empty file")
    problems = tuple(_problem(error, messages) for error in errors)
    if not accepted and not problems:
        problems = (ParseProblem("", "", _last_words(messages)),)
    yield builder, network, problems


def _problem(error: Any, messages: Messages) -> ParseProblem:
    name, _, operator = messages.node.removesuffix("]").rpartition(" [")
    return ParseProblem(error.node_name() or name, error.node_operator() or operator, " ".join(error.desc().split()))


def compute_capabilities(flavour: str | None = None) -> tuple[str, ...]:
    """Those that an engine can be built for ahead of time, as "8.6"; none where it is always this machine's GPU.

    Raises `MissingDependencyError`.
    """
    return tuple(_targets(load_flavour(flavour)))


def _targets(rt: Flavour) -> dict[str, Any]:
    targets = getattr(rt.module, "ComputeCapability", None)
    if targets is None:
        return {}
    return {f"{name[2:-1]}.{name[-1]}": target for name, target in targets.__members__.items() if name[2:].isdigit()}


def _aim(rt: Flavour, config: Any, compute_capability: str) -> None:
    known = _targets(rt)
    if not known:
        raise EngineError(f"{rt} builds for the GPU of this machine only: leave compute_capability out")
    if compute_capability not in known:
        raise EngineError(f"compute capability '{compute_capability}': {rt} builds for {', '.join(known)}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[compute_capability], 0)


def _add_profile(
    path: str | os.PathLike[str], builder: Any, network: Any, config: Any, batch: tuple[int, int, int]
) -> None:
    smallest, best, largest = batch
    if not 1 <= smallest <= best <= largest:
        raise EngineError(f"batch: expected 1 <= smallest <= best <= largest, got {smallest}, {best}, {largest}")
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if not any(-1 in tuple(value.shape) for value in inputs):
        return
    profile = builder.create_optimization_profile()
    for value in inputs:
        first, *rest = tuple(value.shape) or (1,)
        if -1 in rest:
            raise EngineError(f"{path}: input '{value.name}' is {(first, *rest)}: only its first dimension may be free")
        if first == -1:
            profile.set_shape(value.name, *((size, *rest) for size in batch))
    config.add_optimization_profile(profile)


def _last_words(messages: Messages) -> str:
    return messages.problems[-1] if messages.problems else "it gave no reason"
