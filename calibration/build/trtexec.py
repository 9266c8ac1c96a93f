"""The command by which a machine that has TensorRT, and nothing of ours, builds a graph into an engine.

Flags as in TensorRT 10.3 and 11.1 (samples/common/sampleOptions.cpp of NVIDIA/TensorRT; migration guide 10.x to 11.x):
``--stronglyTyped`` is needed by 10 and taken without effect by 11, ``--skipInference`` builds without a benchmark. A
shape is given for every input whose batch is free, `cam_target` among them. With a DLA ``--stronglyTyped`` is left out:
version 10 sets float16 for it, which a strongly typed network refuses, and 11 types every network strongly.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ...runtime.contract.modelfile import ValueInfo
from ...runtime.engines.tensorrt.options import BuilderOptions
from ...runtime.errors import EngineError
from .config import BuildConfig

__all__ = ["trtexec_command", "trtexec_script"]

#: The command-line builder of each package.
_PROGRAMS = {"tensorrt": "trtexec", "tensorrt_rtx": "tensorrt_rtx"}

_LEVELS = {"none": "none", "ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}

#: Tactic sources that every version has, and uses by itself.
_SOURCES = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")


def trtexec_command(
    graph: str, engine: str, inputs: Sequence[ValueInfo], config: BuildConfig, *, exact: bool = False
) -> list[str]:
    """The words of the command. graph, engine: file names. inputs: the graph's. exact: no TF32.

    Raises `EngineError` for an input whose name trtexec cannot be told, or of which more than the batch is free.
    """
    words = [_PROGRAMS[config.backend], f"--onnx={graph}", f"--saveEngine={engine}"]
    free = [one for one in inputs if one.shape is not None and any(not isinstance(size, int) for size in one.shape)]
    if free:
        for bound, batch in zip(("min", "opt", "max"), config.batch.sizes, strict=True):
            words.append(f"--{bound}Shapes=" + ",".join(_shape(value, batch) for value in free))
    options = config.builder_options
    if config.backend == "tensorrt":
        words += [*_flags(options), *(["--noTF32"] if exact else []), "--timingCacheFile=timing.cache"]
    elif exact:
        raise EngineError(
            "--fused: how tensorrt_rtx's command is told to leave TF32 out, which a fused product needs, is not known "
            "to cfcam: build without --onnx-only"
        )
    elif options != BuilderOptions(optimization_level=options.optimization_level, workspace_mb=options.workspace_mb):
        raise EngineError("builder: what tensorrt_rtx's command takes is not known to cfcam: build without --onnx-only")
    return [*words, "--skipInference"]


def _flags(options: BuilderOptions) -> list[str]:
    sources = None
    if options.tactic_sources is not None:  # it is told what to add to its own choice, and to take away
        named = {one.upper() for one in options.tactic_sources}
        sources = ",".join(f"{'+' if one in named else '-'}{one}" for one in sorted({*_SOURCES, *named}))
    flags = {
        "--stronglyTyped": not options.dla,
        f"--builderOptimizationLevel={options.optimization_level}": True,
        f"--memPoolSize=workspace:{options.workspace_mb}": options.workspace_mb is not None,
        "--versionCompatible": options.version_compatible,
        f"--hardwareCompatibilityLevel={_LEVELS[options.hardware_compatibility]}": options.hardware_compatibility
        != "none",
        "--refit": options.refittable,
        "--sparsity=enable": options.sparsity,
        f"--tacticSources={sources}": sources is not None,
        "--profilingVerbosity=detailed": options.detailed_profiling,
        "--useDLACore=0": options.dla,
        "--allowGPUFallback": options.dla,
    }
    return [flag for flag, asked in flags.items() if asked]


def trtexec_script(command: Sequence[str]) -> str:
    """A shell script that runs `command` in its own folder; JetPack's trtexec is found where it lies."""
    program, *rest = command
    graph, engine = (word.partition("=")[2] for word in rest[:2])
    lines = [
        "#!/bin/sh",
        "# Builds the engine beside this file. Run it on the device: an engine fits one GPU and one TensorRT.",
        "set -eu",
        'cd "$(dirname "$0")"',
    ]
    if program == "trtexec":
        lines.append('PATH="$PATH:/usr/src/tensorrt/bin"')
    lines.append(" \\\n  ".join([program, *map(shlex.quote, rest)]))
    lines.append(f"# Then, where cfcam is to run it: cfcam adopt {shlex.quote(engine)} --graph {shlex.quote(graph)}")
    return "\n".join(lines) + "\n"


def _shape(value: ValueInfo, batch: int) -> str:
    assert value.shape is not None
    # trtexec splits the list at commas, takes quotes away, and ends a name at its last colon.
    if set(value.name) & set(",'"):
        raise EngineError(f"input '{value.name}': trtexec cannot be told a name with a comma or quote in it")
    if not all(isinstance(size, int) for size in value.shape[1:]):
        raise EngineError(
            f"input '{value.name}' is {value.shape}: only its first dimension may be free; a "
            "file of several classes per image is exported for TensorRT with --classes-per-image K, a number"
        )
    return f"{value.name}:" + "x".join(str(size) for size in (batch, *value.shape[1:]))
