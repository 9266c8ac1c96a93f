"""What repositories are written from: engines with their manifests, and what a file cannot be part of."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from cfcam.export.errors import ExportError
from cfcam.export.triton import source as source_module
from cfcam.export.triton.config import TritonPlan
from cfcam.export.triton.repository import plan_for, write_repository
from cfcam.export.triton.source import Source, check_fits, open_source
from cfcam.runtime.contract.columns_spec import ColumnsSpec
from cfcam.runtime.contract.fixed_spec import FixedTargetSpec
from cfcam.runtime.contract.fused_spec import FusedSpec
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord, Target
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import ModelFileError

pytest.importorskip("onnx", reason="repositories are written with onnx")


def engine(folder: Path, made_of: Path, backend: Any = "tensorrt", **changes: Any) -> Path:
    """What `cfcam build` leaves: an engine, the graph that it was built from, and the manifest."""
    path = folder / "x.engine"
    path.write_bytes(b"ftrt" + bytes(100))
    shutil.copyfile(made_of, folder / "x.onnx")
    manifest = Manifest(
        product=ProductRecord.of(path),
        source=FileRecord(file="x.cam.onnx", sha256="1" * 64),
        graph=FileRecord.of(folder / "x.onnx"),
        backend=BackendRecord(name=backend, version="10.16.1"),
        target=Target(compute_capability="8.6", gpu="NVIDIA A10"),
        precision="float16",
        config={"batch": {"min": 1, "opt": 2, "max": 4}},
        spec=read_spec(made_of).to_dict(),
        created="2026-11-24T12:00:00Z",
    )
    dataclasses.replace(manifest, **changes).write(path)
    return path


def test_an_engine_becomes_a_model_of_the_tensorrt_backend(tiny_path, tmp_path: Path) -> None:
    path = engine(tmp_path, tiny_path("logits"))
    plan = plan_for(path, "m")
    assert (plan.layout, plan.backend, plan.device) == ("bls", "tensorrt", "gpu")
    write_repository(path, tmp_path / "r", plan)
    folder = tmp_path / "r" / "m_engine"
    assert (folder / "1" / "model.plan").read_bytes() == path.read_bytes()
    text = (folder / "config.pbtxt").read_text()
    assert 'backend: "tensorrt"' in text
    assert "max_batch_size: 4" in text  # the engine's, not the plan's 8
    assert read_spec(tmp_path / "r" / "m" / "1" / "model.onnx") == read_spec(tiny_path("logits"))
    said = (tmp_path / "r" / "m" / "README.md").read_text()
    assert "built by TensorRT 10.16.1, for NVIDIA A10 of compute capability 8.6" in said
    assert "give `x.onnx`" in said


def test_fused_files_are_served_plainly(tiny_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_for(tiny_path("logits"), "m").layout == "one"
    spec = dataclasses.replace(read_spec(tiny_path("logits")), fused=FusedSpec(size=(32, 48)))
    monkeypatch.setattr(source_module, "read_spec", lambda _: spec)
    plan = plan_for(tiny_path("logits"), "m")
    assert (plan.layout, plan.backend, plan.device) == ("plain", "onnxruntime", "cpu")


def test_engines_that_are_refused(tiny_path, tmp_path: Path) -> None:
    graph = tiny_path("logits")
    with pytest.raises(ModelFileError, match=r"is an engine of TensorRT for RTX.*give the .onnx it was built from"):
        open_source(engine(tmp_path, graph, "tensorrt_rtx"))
    with pytest.raises(ModelFileError, match=r"missed its gate.*--allow-failing"):
        open_source(engine(tmp_path, graph, gate={"passed": False}))
    with pytest.raises(ModelFileError, match=r"had too few photos to decide.*build it with more.*--allow-failing"):
        open_source(engine(tmp_path, graph, gate={"passed": False, "verdict": "undecided"}))
    path = engine(tmp_path, graph)
    (tmp_path / "x.onnx").write_bytes(tiny_path("softmax").read_bytes())
    with pytest.raises(ModelFileError, match=r"is not the file that x.engine was built from"):
        open_source(path)
    (tmp_path / "x.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"x.onnx is not beside it"):
        open_source(path)
    with pytest.raises(ModelFileError, match=r"its graph is not beside it"):
        open_source(engine(tmp_path, graph, graph=None))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"layout": "one"}, "--layout one runs ONNX Runtime: use --layout bls"),
        ({"layout": "bls", "backend": "python"}, "which --backend python does not run: leave it out"),
        ({"layout": "plain", "backend": "tensorrt", "device": "cpu"}, "runs on GPUs alone: leave --device out"),
    ],
)
def test_what_an_engine_cannot_be_part_of(plan: dict[str, Any], said: str, tiny_path, tmp_path: Path) -> None:
    source = open_source(engine(tmp_path, tiny_path("logits")))
    with pytest.raises(ExportError, match=said):
        check_fits(source, TritonPlan(name="m", **plan))


def test_an_engine_of_several_classes_is_sent_to_the_one_layout_that_it_has(tiny_path, tmp_path: Path) -> None:
    source = open_source(engine(tmp_path, tiny_path("logits")))
    source = dataclasses.replace(source, spec=dataclasses.replace(source.spec, columns=ColumnsSpec(count=2)))
    plan = TritonPlan(name="m", layout="bls", backend="tensorrt", device="gpu")
    with pytest.raises(ExportError, match="use --layout plain for"):
        check_fits(source, plan)
    check_fits(source, dataclasses.replace(plan, layout="plain"))


@pytest.mark.parametrize(
    ("changes", "plan", "said"),
    [
        (
            {"columns": ColumnsSpec(count=2)},
            {"layout": "bls"},
            "several classes of an image in one inference: use --layout",
        ),
        ({"columns": ColumnsSpec(count=2)}, {"layout": "ensemble"}, "several classes of an image in one inference"),
        ({"columns": ColumnsSpec(count=2)}, {"layout": "plain"}, None),
        ({"fixed_target": FixedTargetSpec(index=-1)}, {"layout": "one"}, "has a fixed target.*use --layout plain"),
        ({"fixed_target": FixedTargetSpec(index=-1)}, {"layout": "plain"}, None),
        ({"precision": "int8"}, {"layout": "plain"}, "saturate on x86 processors without VNNI.*--exact-int8"),
        ({"precision": "int8"}, {"layout": "bls"}, "use --layout one, or --backend python"),
        ({"precision": "int8"}, {"layout": "plain", "exact_int8": True}, None),
        ({"precision": "int8"}, {"layout": "plain", "backend": "python"}, None),
        ({"precision": "int8"}, {"layout": "plain", "device": "gpu"}, None),
        ({}, {"layout": "one", "backend": "tensorrt"}, "is an ONNX file"),
        ({}, {"layout": "plain", "backend": "tensorrt"}, "is an ONNX file, and the TensorRT backend runs engines"),
    ],
)
def test_what_a_file_cannot_be_part_of(
    changes: dict[str, Any], plan: dict[str, Any], said: str | None, tiny_path
) -> None:
    source = open_source(tiny_path("logits"))
    changed: Source = dataclasses.replace(source, spec=dataclasses.replace(source.spec, **changes))
    if said is None:
        check_fits(changed, TritonPlan(name="m", **plan))
    else:
        with pytest.raises(ExportError, match=said):
            check_fits(changed, TritonPlan(name="m", **plan))


def test_quantisers_that_must_run_unfused(tiny_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "has_float16_scales", lambda _: True)
    source = open_source(tiny_path("logits"))
    with pytest.raises(ExportError, match=r"must run unfused.*use --layout one, or --backend python"):
        check_fits(source, TritonPlan(name="m", layout="plain"))
    check_fits(source, TritonPlan(name="m", layout="plain", backend="python"))
    check_fits(source, TritonPlan(name="m"))
