"""The command line for another machine's builder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("pydantic")

from cfcam.calibration.build.config_files import parse_config, read_config
from cfcam.calibration.build.trtexec import trtexec_command, trtexec_script
from cfcam.runtime.contract.modelfile import ValueInfo
from cfcam.runtime.errors import EngineError

IMAGE = ValueInfo("input:0", "float32", ("N", 3, 64, 48))
TARGET = ValueInfo("cam_target", "int64", ("N",))


def test_every_input_has_its_shapes() -> None:
    command = trtexec_command("x y.onnx", "x y.engine", [IMAGE, TARGET], read_config("jetson-orin-fp16")[1])
    assert command == [
        "trtexec",
        "--onnx=x y.onnx",
        "--saveEngine=x y.engine",
        "--minShapes=input:0:1x3x64x48,cam_target:1",
        "--optShapes=input:0:1x3x64x48,cam_target:1",
        "--maxShapes=input:0:4x3x64x48,cam_target:4",
        "--stronglyTyped",
        "--builderOptimizationLevel=3",
        "--memPoolSize=workspace:512",
        "--timingCacheFile=timing.cache",
        "--skipInference",
    ]


def test_every_option_has_its_flag() -> None:
    text = (
        "backend: tensorrt\nbuilder:\n  {version_compatible: true, hardware_compatibility: same_compute_capability, "
        "refittable: true, sparsity: true, tactic_sources: [jit_convolutions, cudnn], detailed_profiling: true}"
    )
    command = trtexec_command("x.onnx", "x.engine", [], parse_config(text, "f.yaml"))
    assert command[3:-2] == [
        "--stronglyTyped",
        "--builderOptimizationLevel=3",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=sameComputeCapability",
        "--refit",
        "--sparsity=enable",
        "--tacticSources=+CUDNN,-EDGE_MASK_CONVOLUTIONS,+JIT_CONVOLUTIONS",
        "--profilingVerbosity=detailed",
    ]


def test_a_fused_graph_is_built_without_tf32() -> None:
    config = read_config("jetson-orin-fp16")[1]
    usual, exact = (trtexec_command("x", "y", [IMAGE], config, exact=one) for one in (False, True))
    assert sorted(exact) == sorted([*usual, "--noTF32"])
    with pytest.raises(EngineError, match="build without --onnx-only"):
        trtexec_command("x", "y", [IMAGE], parse_config("backend: tensorrt_rtx", "f.yaml"), exact=True)


def test_an_accelerator_and_the_gpu_behind_it() -> None:
    command = trtexec_command("x.onnx", "x.engine", [IMAGE], read_config("jetson-orin-dla")[1])
    assert {"--useDLACore=0", "--allowGPUFallback"} <= set(command)
    assert "--stronglyTyped" not in command, "TensorRT 10 sets float16 for an accelerator"
    assert "--maxShapes=input:0:1x3x64x48" in command


def test_a_fixed_batch_needs_no_shapes() -> None:
    fixed = [ValueInfo("image", "float32", (2, 3, 64, 48)), ValueInfo("cam_target", "int64", (2,))]
    command = trtexec_command("x.onnx", "x.engine", fixed, read_config("drive-orin")[1])
    assert not any("Shapes" in word for word in command)


def test_tensorrt_for_rtx_has_a_program_of_its_own() -> None:
    program, *rest = trtexec_command("x.onnx", "x.engine", [IMAGE, TARGET], read_config("rtx")[1])
    assert program == "tensorrt_rtx"
    assert "--stronglyTyped" not in rest  # it knows nothing else
    sparse = parse_config("backend: tensorrt_rtx\nbuilder: {sparsity: true}", "f.yaml")
    with pytest.raises(
        EngineError, match="tensorrt_rtx's command takes is not known to cfcam: build without --onnx-only"
    ):
        trtexec_command("x.onnx", "x.engine", [IMAGE], sparse)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ValueInfo("a,b", "float32", ("N", 3)), "input 'a,b': trtexec cannot be told a name with a comma"),
        (ValueInfo("image", "float32", ("N", 3, "H", "W")), "only its first dimension may be free"),
    ],
)
def test_what_the_command_cannot_say(value: ValueInfo, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        trtexec_command("x.onnx", "x.engine", [value], parse_config("backend: tensorrt", "f.yaml"))


def test_the_script_gives_the_program_the_same_words(tmp_path: Path) -> None:
    """Run by a real shell, with a program that writes down what it is given."""
    program = tmp_path / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\npwd > said\nprintf "%s\\n" "$@" >> said\n')
    program.chmod(0o755)
    folder = tmp_path / "a folder"
    folder.mkdir()
    command = trtexec_command("it's x.onnx", "$x.engine", [IMAGE, TARGET], read_config("jetson-orin-int8")[1])
    (folder / "run.sh").write_text(trtexec_script(command))
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", str(folder / "run.sh")], check=True, env={**os.environ, "PATH": path}, cwd="/")
    assert (folder / "said").read_text().splitlines() == [str(folder), *command[1:]]
