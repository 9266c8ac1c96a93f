"""Files with a fixed target that were spoilt on purpose."""

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.calibration.check import check_file
from cfcam.export import export_onnx
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    onnx.save(onnx_classifiers.make("plain"), folder / "net.onnx")
    return export_onnx(folder / "net.onnx", folder / "net.cam.onnx", fixed_target=2).path


def another_class(model):
    for tensor in model.graph.initializer:
        if tensor.name == "cam_target":
            tensor.CopyFrom(numpy_helper.from_array(np.array([3]), "cam_target"))


def another_type(model):
    for node in model.graph.node:
        if node.name.startswith("cam_class_cast"):
            node.attribute[0].i = TensorProto.INT64
    entry = next(output for output in model.graph.output if output.name == "cam_class")
    entry.type.tensor_type.elem_type = TensorProto.INT64


def without_size(model):
    """(N,) in place of (N, 1)."""
    sizes = next(node.input[1] for node in model.graph.node if node.name.startswith("cam_class_column"))
    for tensor in model.graph.initializer:
        if tensor.name == sizes:
            tensor.CopyFrom(numpy_helper.from_array(np.array([-1]), sizes))
    entry = next(output for output in model.graph.output if output.name == "cam_class")
    del entry.type.tensor_type.shape.dim[1:]


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (another_class, "classes, counts and flags of the file that are not its view's"),
        (without_size, "added outputs that are neither float32 nor int32, or have no size"),
        (another_type, "added outputs that are neither float32 nor int32, or have no size"),
    ],
)
def test_a_spoilt_file_fails(tmp_path, fixed, spoil, name):
    model = onnx.load(fixed)
    spoil(model)
    onnx.save(model, tmp_path / "x.cam.onnx")
    checked = check_file(tmp_path / "x.cam.onnx")
    failed = [row.name for row in checked.rows if row.status == "failed"]
    assert name in failed
    assert not [one for one in failed if "against its view" in one and spoil is not another_class]


def test_a_class_that_is_no_constant_is_no_fixed_one(tmp_path, fixed):
    model = onnx.load(fixed)
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == "cam_target"))
    model.graph.input.append(helper.make_tensor_value_info("cam_target", TensorProto.INT64, ["N"]))
    onnx.save(model, tmp_path / "x.cam.onnx")
    checked = check_file(tmp_path / "x.cam.onnx")
    assert not checked
    assert "has no constant 'cam_target'" in checked.rows[0].note
