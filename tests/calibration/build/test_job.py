"""What a build is to make: names, batches, the method that judges, and what is refused before any work."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

pytest.importorskip("pydantic")

import cfcam.runtime.engines.tensorrt.cuda as cuda_module
from cfcam.calibration.build.config_files import parse_config
from cfcam.calibration.build.job import Job, make_job
from cfcam.export.errors import ExportError
from cfcam.export.writing import set_spec
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt import build as tensorrt_build
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.errors import EngineError, MissingDependencyError, ModelFileError, OutputError
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRt

Tiny = Callable[[str], Path]


def job(source: Path, text: str, output: Path, **options: Any) -> Job:
    return make_job(source, "mine", parse_config(text, "f.yaml"), output, **options)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of compute capability 8.7, and `tensorrt`, which builds for that one only."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda_module, "_bindings", lambda: fake)
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt("tensorrt", fake))
    monkeypatch.setattr(packages, "_in_use", None)


def test_names_start_with_the_source_and_the_configuration(tiny_path: Tiny, tmp_path: Path) -> None:
    one = job(tiny_path("logits"), "backend: onnxruntime", tmp_path)
    assert (one.graph_name, one.script_name) == ("logits.mine.onnx", "logits.mine.trtexec.sh")
    assert (one.targets, one.command) == ((), ())


@pytest.mark.parametrize(
    ("wanted", "known", "names"),
    [
        ("[8.6, 12.0]", ("8.6", "12.0"), ["logits.mine.sm86.engine", "logits.mine.sm120.engine"]),
        ("[8.6]", ("8.6", "12.0"), ["logits.mine.engine"]),
        ("[]", ("8.6",), ["logits.mine.engine"]),
    ],
)
def test_names_of_engines(
    wanted: str,
    known: tuple[str, ...],
    names: list[str],
    tiny_path: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorrt_build, "compute_capabilities", lambda _: known)
    one = job(tiny_path("logits"), f"backend: tensorrt_rtx\nbuilder: {{compute_capability: {wanted}}}", tmp_path)
    assert [one.engine_name(target) for target in one.targets] == names


def test_a_fixed_batch_wins_over_the_configurations(tiny_path: Tiny, tmp_path: Path) -> None:
    text = "backend: onnxruntime\nbatch: {max: 4}"
    free, fixed = (job(tiny_path(name), text, tmp_path) for name in ("logits", "fixed-batch"))
    assert (free.fixed_batch, free.batch) == (None, (1, 1, 4))
    assert fixed.fixed_batch is not None
    assert fixed.batch == (fixed.fixed_batch,) * 3


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("", "hirescam"),  # the file's own
        ("\nmethod: {name: layercam}", "layercam"),
        ("\nmethod: {name: ablationcam}", "cfcam"),  # a probe runs the model again, which takes minutes
    ],
)
def test_the_method_that_judges(method: str, expected: str, tiny_path: Tiny, tmp_path: Path) -> None:
    model, source = onnx.load(tiny_path("logits")), tmp_path / "x.cam.onnx"
    set_spec(model, read_spec(tiny_path("logits")).with_method("hirescam", {}))
    onnx.save(model, source)
    assert job(source, f"backend: onnx{method}", tmp_path).verified_method[0] == expected


def test_the_graph_for_another_machine_needs_nothing_here(tiny_path: Tiny, tmp_path: Path) -> None:
    one = job(tiny_path("logits"), "backend: tensorrt\nbatch: {max: 4}", tmp_path, onnx_only=True)
    assert one.targets == ()
    assert one.command[:3] == ("trtexec", "--onnx=logits.mine.onnx", "--saveEngine=logits.mine.engine")


@pytest.mark.usefixtures("gpu")
def test_an_engine_for_this_machine(tiny_path: Tiny, tmp_path: Path) -> None:
    text = "backend: tensorrt\nbuilder: {compute_capability: [%s]}"
    assert job(tiny_path("logits"), text % "8.6, 8.7", tmp_path).targets == ("8.7",)
    assert job(tiny_path("logits"), text % "", tmp_path).targets == (None,)
    with pytest.raises(
        EngineError, match=r"'mine' is for compute capability 8\.6, but the GPU here \(Fake GPU\) has 8\.7"
    ):
        job(tiny_path("logits"), text % "8.6", tmp_path)


def test_what_is_absent_is_said(tiny_path: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_path("logits")
    for text, words in (
        ("backend: onnx\nprecision: int8\nquantisation: {float_nodes: [nobody]}", "nobody"),
        ("backend: onnxruntime\nengine: {provider: cpu}\nprecision: int8\nquantisation: {float_nodes: [x]}", "'x'"),
    ):
        with pytest.raises(ExportError, match=words):
            job(source, text, tmp_path)
    monkeypatch.setattr(tensorrt_build, "compute_capabilities", lambda _: ("7.5", "8.6"))
    with pytest.raises(EngineError, match=r"tensorrt_rtx builds for 7\.5, 8\.6, not for compute capability 9\.9"):
        job(source, "backend: tensorrt_rtx\nbuilder: {compute_capability: [8.6, 9.9]}", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: is a file, the folder for the products was expected"):
        job(source, "backend: onnx", tmp_path / "file")
    same = tmp_path / "a.mine.onnx"
    same.write_bytes(source.read_bytes())
    (tmp_path / "a.cam.onnx").symlink_to(same)
    with pytest.raises(OutputError, match=r"a\.mine\.onnx: is the file that is read; write to another folder"):
        job(tmp_path / "a.cam.onnx", "backend: onnx", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"building needs ONNX Runtime: install cfcam\[cpu\]"):
        job(source, "backend: onnx", tmp_path)


def test_a_fused_product(guided_path: Path, tiny_path: Tiny, tmp_path: Path) -> None:
    one = job(guided_path, "backend: onnx\nmethod: {name: cfcam, settings: {contrast: 0}}", tmp_path, fused=True)
    plan = one.plan_rule(one.spec)
    assert plan.settings is not None
    assert (plan.form, plan.method, plan.settings.contrast, plan.size) == ("static", "cfcam", 0, (32, 32))
    assert one.verified_method == ("cfcam", {"contrast": 0})
    dla = "batch: {min: 1, opt: 1, max: 1}\nprecision: float16\nengine: {cuda_graph: false}"
    text = f"backend: tensorrt\n{dla}\nbuilder: {{dla: true, compute_capability: [8.7]}}"
    with pytest.raises(EngineError, match="a DLA computes in float16"):
        job(guided_path, text, tmp_path, onnx_only=True, fused=True)
    with pytest.raises(EngineError, match=r"take 7\.5 out"):
        job(guided_path, "backend: tensorrt_rtx\nbuilder: {compute_capability: [7.5, 8.6]}", tmp_path, fused=True)
    command = job(guided_path, "backend: tensorrt", tmp_path, onnx_only=True, fused=True).command
    assert "--noTF32" in command
    with pytest.raises(ExportError, match="it runs the model again"):
        job(tiny_path("logits"), "backend: onnx\nmethod: {name: scorecam}", tmp_path, fused=True)


def test_a_file_that_is_lowered_already(tiny_path: Tiny, tmp_path: Path) -> None:
    model = onnx.load(tiny_path("logits"))
    set_spec(model, dataclasses.replace(read_spec(tiny_path("logits")), precision="float16"))
    onnx.save(model, tmp_path / "half.cam.onnx")
    with pytest.raises(ModelFileError, match="its precision is float16; give the float32 file"):
        job(tmp_path / "half.cam.onnx", "backend: onnx", tmp_path / "out")
