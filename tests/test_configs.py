"""The configurations that come with cfcam."""

from __future__ import annotations

from importlib import resources

import pytest

pytest.importorskip("pydantic")

from cfcam.calibration.build.config_files import config_names, config_schema, read_config
from cfcam.runtime.engines.tensorrt.build import compute_capabilities
from tensorrt_required import require_tensorrt

NAMES = ["cpu", "cpu-int8", "drive-orin", "jetson-orin-dla", "jetson-orin-fp16", "jetson-orin-int8", "rtx", "server"]


def test_they_are_found_by_name_wherever_cfcam_is_installed() -> None:
    assert config_names() == NAMES
    folder = resources.files("cfcam.configs")
    assert {file.name for file in folder.iterdir() if file.name.endswith(".yaml")} == {f"{name}.yaml" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_each_says_all_that_a_target_needs(name: str) -> None:
    found, config = read_config(name)
    assert found == name
    said = config.model_dump(exclude_unset=True)
    assert {"description", "backend", "precision", "batch", "engine", "budgets", "gate"} <= set(said)
    assert said["budgets"].keys() == {"p99_ms", "memory_mb"}
    assert set(said["batch"]) == {"min", "opt", "max"}
    if config.builds_engines:
        assert config.builder.compute_capability
    if config.precision == "int8":
        assert {"quantisation", "calibration"} <= set(said)
    else:
        assert "calibration" not in said
    if config.precision != "float32":
        assert {"last_score", "middle_score", "top1"} <= set(said["gate"]["thresholds"])


def test_what_they_aim_at() -> None:
    for name in ("jetson-orin-dla", "jetson-orin-fp16", "jetson-orin-int8", "drive-orin"):
        assert read_config(name)[1].builder.compute_capability == ("8.7",)
    assert read_config("jetson-orin-dla")[1].builder_options.dla
    assert not read_config("cpu-int8")[1].quantisation.symmetric
    assert read_config("jetson-orin-int8")[1].quantisation.symmetric
    assert read_config("server")[1].engine_options.provider == "cuda"


def test_tensorrt_for_rtx_builds_for_all_that_rtx_names() -> None:
    require_tensorrt()
    wanted = read_config("rtx")[1].builder.compute_capability
    assert len(wanted) > 2
    assert set(wanted) <= set(compute_capabilities("tensorrt_rtx"))


def test_schema_closes_every_section() -> None:
    schema = config_schema()
    sections = [schema, *schema["$defs"].values()]
    assert all(section["additionalProperties"] is False for section in sections)
    assert schema["required"] == ["backend"]
    thresholds = schema["$defs"]["Thresholds"]["properties"]
    assert {"last_score", "middle_score", "top1"} <= set(thresholds)
    builder = schema["$defs"]["Builder"]["properties"]
    assert builder["compute_capability"]["items"]["anyOf"]
    assert builder["hardware_compatibility"]["enum"] == ["none", "ampere_plus", "same_compute_capability"]
    assert builder["dla"]["type"] == "boolean"
    assert (builder["workspace_mb"]["anyOf"][0]["minimum"], builder["optimization_level"]["maximum"]) == (1, 5)
