"""Configurations are read strictly, and errors say where."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydantic")

from cfcam.calibration.build.config_files import ConfigError, parse_config, read_config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "backend: onnx\nprecison: int8",
            r"f.yaml: precison: unknown key, did you mean 'precision'\?: expected one of ",
        ),
        ("backend: onnx\nengine: {treads: 2}", r"f.yaml: engine.treads: unknown key, did you mean 'threads'\?"),
        (
            "backend: onnx\ngate: {thresholds: {lst_score: 1}}",
            "f.yaml: gate.thresholds.lst_score: unknown key, did you mean 'last_score'?",
        ),
        ("precision: int8", "f.yaml: backend: is missing"),
        ("backend: cuda", "f.yaml: backend: input should be 'onnxruntime', 'tensorrt', .*, got 'cuda'"),
        ("backend: onnx\nbatch: {min: true}", "f.yaml: batch.min: input should be a valid integer, got True"),
        ("backend: onnx\nbatch: {max: '8'}", "f.yaml: batch.max: input should be a valid integer, got '8'"),
        ("backend: onnx\nbatch: {min: 4}", "f.yaml: batch: expected min <= opt <= max, got 4, 1, 1"),
        ("backend: onnx\nbudgets: {p99_ms: 0}", "f.yaml: budgets.p99_ms: input should be greater than 0, got 0"),
        ("backend: tensorrt\nbuilder: {compute_capability: [Orin]}", r"builder.compute_capability.0: .*, got 'Orin'"),
        (
            "backend: tensorrt\nbuilder: {optimization_level: true}",
            "f.yaml: builder.optimization_level: .* valid integer",
        ),
        ("backend: tensorrt\nbuilder: {workspace_mb: 0}", "f.yaml: builder.workspace_mb: input should be greater than"),
        ("backend: tensorrt\nbuilder: {tactic_sources: [cudn]}", r"builder.tactic_sources.0: .* 'cudnn', got 'cudn'"),
        (
            "backend: tensorrt\nbuilder: {hardware_compatibility: all}",
            "builder.hardware_compatibility: .*'ampere_plus'",
        ),
        (
            "backend: tensorrt_rtx\nbuilder: {version_compatible: true}",
            "builder.version_compatible: tensorrt_rtx does not",
        ),
        (
            "backend: tensorrt_rtx\nbuilder: {hardware_compatibility: ampere_plus}",
            "tensorrt_rtx does not have it: leave",
        ),
        ("backend: tensorrt_rtx\nbuilder: {dla: true}", "f.yaml: builder.dla: tensorrt_rtx does not have it"),
        (
            "backend: tensorrt\nbatch: {max: 4}\nbuilder: {dla: true, compute_capability: [8.6]}\nengine: {cuda_graph: true}",  # noqa: E501
            r"f.yaml: builder.dla: needs precision: float16, .*; a batch whose .*; .*\[8.7\] \(AGX Orin and Orin NX\); "
            "engine.cuda_graph: false",
        ),
        ("backend: onnx\nbuilder: {}", "f.yaml: builder: only with the backends tensorrt and tensorrt_rtx"),
        ("backend: onnx\nquantisation: {}", "f.yaml: quantisation: only with precision int8, but precision is float32"),
        (
            "backend: tensorrt\nprecision: int8\nquantisation: {symmetric: false}",
            "f.yaml: quantisation.symmetric: tensorrt takes no zero point but 0: say true",
        ),
        ("backend: onnx\nengine: {provider: cdua}", "f.yaml: unknown provider 'cdua': expected one of cpu, cuda"),
        ("backend: onnx\ngate: {thresholds: {top1: 2.0}}", "f.yaml: .*top1: expected a number from 0.0 to 1, got 2.0"),
        ("backend: onnx\nmethod: {name: gradcm}", "f.yaml: unknown method 'gradcm'; did you mean 'gradcam'"),
        ("backend: onnx\nmethod: {name: cfcam, settings: {x: 1}}", "f.yaml: method 'cfcam' .*x"),
        ("backend: onnx\nengine: [1\nbatch: 2", "f.yaml: line 3: not valid YAML"),
        ("backend: onnx\n\nbackend: onnx", r"f.yaml: line 3: not valid YAML \('backend' comes twice\)"),
        ("backend: onnx\n? [a, b]\n: c", r"f.yaml: line 2: not valid YAML \(a key must be a word\)"),
        (
            "backend: onnxruntime\nbudgets: {p99_ms: .inf}",
            r"line 2: not valid YAML \('.inf' is no finite number",
        ),
        ("backend: onnxruntime\nengine: {threads: 99999999999}", "threads: expected 1 to 4096, got 99999999999"),
        ("backend: onnxruntime\nbatch: {max: 1000000000}", "batch.max: input should be less than or equal to 4096"),
        ("backend: &a [*a]", r"f.yaml: line 1: not valid YAML \(anchors and aliases are not read"),
        (
            "backend: !!python/object:os.system {}",
            "not valid YAML .tags such as tag:yaml.org,2002:python/object:os.system",
        ),
        ("just text", "f.yaml: expected keys and values"),
        ("", "f.yaml: expected keys and values"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_config(text, "f.yaml")
    assert "\n" not in str(caught.value)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("bakend: onnx\nbatch: {min: 0}", "f.yaml")
    assert all(key in str(caught.value) for key in ("backend: is missing", "bakend: unknown key", "batch.min"))


def test_a_file_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("backend: tensorrt\nprecision: float16\nbuilder: {compute_capability: [8.7, 11.0]}\n")
    name, config = read_config(path)
    assert (name, config.builder.compute_capability) == ("mine", ("8.7", "11.0"))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mine\.yaml: is not UTF-8 text"):
        read_config(path)
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read \(No such file"):
        read_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match=r"configuration 'cpu-in8': unknown, did you mean 'cpu-int8'\?.*, or a path"):
        read_config("cpu-in8")
