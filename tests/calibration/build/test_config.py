"""What a configuration asks for: sections of dataclasses, and how many photos."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("pydantic")

from cfcam.calibration.build.config import BuildConfig
from cfcam.calibration.build.config_files import parse_config
from cfcam.calibration.verify.thresholds import Thresholds
from cfcam.export.precision import Plan
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.engines.tensorrt.options import BuilderOptions
from pydantic import ValidationError


def test_defaults_are_those_of_the_dataclasses() -> None:
    config = parse_config("backend: tensorrt", "f.yaml")
    assert config.plan == Plan()
    assert config.engine_options == EngineOptions()
    assert config.builder_options == BuilderOptions()
    assert config.thresholds == Thresholds.from_mapping({}, "float32")
    assert config.batch.sizes == (1, 1, 1)


@pytest.mark.parametrize(
    ("section", "kind"), [("quantisation", Plan), ("engine", EngineOptions), ("builder", BuilderOptions)]
)
def test_every_setting_of_a_dataclass_is_a_key(section: str, kind: type) -> None:
    schema = BuildConfig.model_json_schema()
    found = set(schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]["properties"])
    fields = {one.name for one in dataclasses.fields(kind)}
    assert found == fields - {"precision"} | ({"compute_capability"} if section == "builder" else set())


def test_settings_reach_what_they_are_for() -> None:
    text = (
        "backend: tensorrt\nprecision: int8\nquantisation: {symmetric: true, float_nodes: [a]}\n"
        "builder: {compute_capability: [8.7], sparsity: true}\nengine: {cuda_graph: true}\nbatch: {opt: 2, max: 4}"
    )
    config = parse_config(text, "f.yaml")
    assert config.plan == Plan(precision="int8", symmetric=True, float_nodes=("a",))
    assert config.engine_options == EngineOptions(cuda_graph=True)
    assert config.builder_options == BuilderOptions(sparsity=True)
    assert (config.builder.compute_capability, config.batch.sizes) == (("8.7",), (1, 2, 4))
    with pytest.raises(ValidationError):
        config.batch.min = 2  # type: ignore[misc]


def test_thresholds_start_from_the_precision_and_null_lifts_one() -> None:
    config = parse_config("backend: onnx\nprecision: int8\ngate: {thresholds: {top1: null, last_score: 0.9}}", "f.yaml")
    half = parse_config("backend: onnx\nprecision: float16", "f.yaml")
    assert (config.thresholds.top1, config.thresholds.last_score) == (None, 0.9)
    assert config.thresholds.middle_score is not None
    assert half.thresholds.middle_score is not None
    assert config.thresholds.middle_score < half.thresholds.middle_score


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("precision: float32", 1000, 0),
        ("precision: int8", 1000, 256),
        ("precision: int8\ncalibration: {images: 20}", 3, 20),  # whether there are so many is seen later
        ("precision: float16", 1000, 16),
        ("precision: float16\ncalibration: {images: 5}", 1000, 5),
        ("precision: float16", 40, 10),  # a quarter: the others judge
        ("precision: float16", 15, 0),
    ],
)
def test_how_many_photos_calibrate(text: str, given: int, expected: int) -> None:
    assert parse_config(f"backend: onnx\n{text}", "f.yaml").calibrating_photos(given) == expected


def test_a_dla_has_its_conditions() -> None:
    text = "backend: tensorrt\nprecision: float16\nbuilder: {dla: true, compute_capability: [8.7]}\nbatch: "
    text += "{min: 2, opt: 2, max: 2}"
    assert parse_config(text, "f.yaml").builder_options.dla


@pytest.mark.parametrize(
    ("backend", "engines"), [("onnx", False), ("onnxruntime", False), ("tensorrt", True), ("tensorrt_rtx", True)]
)
def test_backends_that_build_engines(backend: str, engines: bool) -> None:
    assert parse_config(f"backend: {backend}", "f.yaml").builds_engines == engines
