"""Fused files that were spoilt on purpose: each is refused, by the check of the finished map."""

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.calibration.check import check_file
from cfcam.export import export_onnx
from cfcam.export.writing import set_spec, spec_of
from onnx import helper, numpy_helper


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fused")
    onnx.save(onnx_classifiers.make("plain"), folder / "net.onnx")
    return export_onnx(folder / "net.onnx", folder / "net.cam.onnx", fused=True).path


@pytest.fixture(scope="module")
def columns(fused):
    return export_onnx(
        fused.with_name("net.onnx"), fused.with_name("two.cam.onnx"), fused=True, classes_per_image=2
    ).path


def with_settings(**changes):
    """The settings that the file states are not those of its graph."""

    def spoil(model):
        spec = spec_of(model)
        assert spec is not None
        assert spec.method is not None
        set_spec(model, spec.with_method("cfcam", {**spec.method.settings, **changes}))

    return spoil


def reading_the_rivals(model):
    """The rule takes the rivals' gradient for that of the class, which it reads before it is spread over the map."""
    (spreading,) = (node for node in model.graph.node if "cam_gradients" in node.output)
    found = 0
    for node in model.graph.node:
        if node.name.startswith("cam_fused") and node.op_type == "Squeeze" and node.input[0] == spreading.input[0]:
            node.input[0], found = "cam_rivals", found + 1
    assert found == 1


def through(name, operator, **attributes):
    """An output goes through one more operator."""

    def spoil(model):
        for node in model.graph.node:
            for place, made in enumerate(node.output):
                if made == name:
                    node.output[place] = "before"
        model.graph.node.append(helper.make_node(operator, ["before"], [name], **attributes))

    return spoil


SPOILT = {
    "another filter": (with_settings(map_sigma=2.0), "against the host"),
    "another blur": (with_settings(feature_sigma=0.0), "against the host"),
    "another share": (with_settings(shrinkage=0.9), "against the host"),
    "another contrast": (with_settings(contrast=0.1), "against the host"),
    "another gradient": (reading_the_rivals, "against the host"),
    "swapped axes": (through("cam_map", "Transpose", perm=[0, 2, 1]), "against the host"),
    "always empty or never": (through("cam_empty", "Not"), "empty"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_rule_is_seen(fused, tmp_path, kind):
    spoil, words = SPOILT[kind]
    model = onnx.load(fused)
    spoil(model)
    onnx.save(model, tmp_path / "spoilt.cam.onnx")
    failed = [row.name for row in check_file(tmp_path / "spoilt.cam.onnx").failures]
    assert any(words in name for name in failed), failed
    assert all("map" in name for name in failed), failed


def test_a_class_that_does_not_exist_must_get_nothing(fused, tmp_path):
    model = onnx.load(fused)
    less = next(node for node in model.graph.node if node.name.startswith("cam_fused") and node.op_type == "Less")
    limit = next(tensor for tensor in model.graph.initializer if tensor.name == less.input[1])
    limit.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(limit) + 100, limit.name))
    onnx.save(model, tmp_path / "spoilt.cam.onnx")
    failed = [row.name for row in check_file(tmp_path / "spoilt.cam.onnx").failures]
    assert failed == ["images with a map for a class that does not exist"]


@pytest.mark.parametrize(
    ("order", "words"),
    [([1, 0], "several classes, against the host's"), ([0, 0], "several classes, against the host's"), ([0, 1], None)],
)
def test_maps_of_other_columns_are_seen(columns, tmp_path, order, words):
    model = onnx.load(columns)
    for node in model.graph.node:
        node.output[:] = ["before" if name == "cam_map" else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array(order), "order"))
    model.graph.node.append(helper.make_node("Gather", ["before", "order"], ["cam_map"], axis=1))
    onnx.save(model, tmp_path / "spoilt.cam.onnx")
    failed = [row.name for row in check_file(tmp_path / "spoilt.cam.onnx").failures]
    assert any(words in name for name in failed) if words else not failed, failed


def test_the_file_as_it_is_holds(fused):
    report = check_file(fused)
    assert report, report.failures
    assert sum("finished map" in row.name for row in report.rows) == 5
