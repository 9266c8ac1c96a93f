"""`CamSpec`: there and back, what it refuses, what it keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cfcam.runtime.contract.spec import CamSpec, LayerSpec, TailSpec
from cfcam.runtime.errors import SpecError
from tiny_model import VARIANTS

_SPEC = VARIANTS["logits"].spec


@pytest.mark.parametrize("name", list(VARIANTS))
def test_there_and_back(name):
    spec = VARIANTS[name].spec
    assert CamSpec.from_json(spec.to_json()) == spec


def test_several_layers():
    second = LayerSpec(name="mid", value="m", channels=4, grid=(16, 24), activations="a1", gradients="g1")
    spec = replace(_SPEC, layers=(*_SPEC.layers, second))
    data = spec.to_dict()
    assert data["layer"]["name"] == "relu"
    assert [layer["name"] for layer in data["more_layers"]] == ["mid"]
    assert CamSpec.from_dict(data) == spec


def test_unknown_keys_and_newer_minors_are_kept():
    data = json.loads(_SPEC.to_json())
    data["schema"] = "1.7"
    data["calibration"] = {"threshold": 0.5}
    data["input"]["gamma"] = 2.2
    data["layer"]["note"] = "x"
    back = json.loads(CamSpec.from_dict(data).to_json())
    assert back == data


def _changed(path: str, value: Any) -> dict[str, Any]:
    data = json.loads(_SPEC.to_json())
    *parents, last = path.split(".")
    section = data
    for parent in parents:
        section = section[parent]
    if value is KeyError:
        del section[last]
    else:
        section[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("schema", "2.0", "newer than this cfcam reads"),
        ("schema", 1, "expected 'MAJOR.MINOR'"),
        ("layer", KeyError, "CamSpec layer: missing"),
        ("input.name", KeyError, r"input\.name: missing"),
        ("input.layout", "CHWN", r"input\.layout: expected one of 'NCHW', 'NHWC', got 'CHWN'"),
        ("input.height", 0, "must be positive"),
        ("input.height", "32", r"input\.height: expected int, got '32'"),
        ("input.height", True, r"input\.height: expected int"),
        ("input.mean", [0.5], r"input\.mean: expected 3 numbers for color 'rgb', got 1"),
        ("input.std", [1, 0, 1], "must not be zero"),
        ("input.scale", float("inf"), "finite"),
        ("input.resize.size", 20, "smaller than the 32x48"),
        ("input.resize.crop", "none", "needs 'center'"),
        ("output.labels", ["a"], "1 labels for 6 classes"),
        ("output.classes", 0, "expected at least 1"),
        ("layer.grid", [8], r"layers\[0\]\.grid: expected 2 items, got 1"),
        ("layer.channels", 0, "must be positive"),
        ("method", "cfcam", "CamSpec method: expected an object"),
    ],
)
def test_refused(path, value, words):
    with pytest.raises(SpecError, match=words):
        CamSpec.from_dict(_changed(path, value))


def test_not_json():
    with pytest.raises(SpecError, match="not valid JSON"):
        CamSpec.from_json("{")
    with pytest.raises(SpecError, match="expected a JSON object, got list"):
        CamSpec.from_json("[]")


def test_the_tail_section_is_written_only_where_there_is_a_tail():
    spec = _SPEC
    assert "tail" not in spec.to_dict()
    assert CamSpec.from_json(spec.to_json()).tail is None
    tail = TailSpec(file="x.tail.onnx", sha256="1" * 64, inputs=("cam_activations", "image"), score="logits")
    written = replace(spec, tail=tail)
    assert written.to_dict()["tail"]["inputs"] == ["cam_activations", "image"]
    assert CamSpec.from_json(written.to_json()) == written


def test_files_of_schema_1_0_are_read():
    data = _SPEC.to_dict()
    data["schema"] = "1.0"
    assert CamSpec.from_dict(data).schema == "1.0"


def test_several_layers_came_with_schema_1_2():
    """One layer is written as it was before; more of them with how their maps are fused."""
    assert {"more_layers", "fusion"}.isdisjoint(_SPEC.to_dict())
    old = {**_SPEC.to_dict(), "schema": "1.1"}
    assert CamSpec.from_dict(old).layers == _SPEC.layers
    second = replace(_SPEC.layer, name="mid", activations="a1", gradients="g1")
    spec = replace(_SPEC, layers=(_SPEC.layer, second), fusion="max")
    assert spec.to_dict()["fusion"] == "max"
    assert CamSpec.from_json(spec.to_json()) == spec
    with pytest.raises(
        SpecError, match="fusion: expected one of 'gate', 'product', 'mean', 'max', 'guided', got 'sum'"
    ):
        CamSpec.from_dict({**spec.to_dict(), "fusion": "sum"})


@pytest.mark.parametrize("what", ["name", "activations", "gradients"])
def test_layers_that_cannot_be_told_apart_are_refused(what):
    other = LayerSpec(name="mid", value="m", channels=4, grid=(16, 24), activations="a1", gradients="g1")
    with pytest.raises(SpecError, match=f"two of them have the same {what}: '"):
        replace(_SPEC, layers=(_SPEC.layer, replace(other, **{what: getattr(_SPEC.layer, what)})))


def test_one_layer_of_several():
    second = replace(_SPEC.layer, name="mid", activations="a1", gradients="g1")
    tail = TailSpec(file="x.tail.onnx", sha256="1" * 64, inputs=("cam_activations",), score="logits")
    spec = replace(_SPEC, layers=(_SPEC.layer, second), tail=tail)
    assert spec.with_layer("relu").layers == (_SPEC.layer,)
    assert spec.with_layer("relu").tail == tail
    assert spec.with_layer("mid").layers == (second,)
    assert spec.with_layer("mid").tail is None
    with pytest.raises(SpecError, match="no target layer 'deep': it has relu, mid"):
        spec.with_layer("deep")


def test_added_outputs_are_the_class_and_each_layers_two():
    layers = tuple(replace(_SPEC.layer, name=n, activations=f"{n}_a", gradients=f"{n}_g") for n in ("x", "y"))
    assert replace(_SPEC, layers=layers).added_outputs == (_SPEC.chosen, "x_a", "x_g", "y_a", "y_g")
