"""Which input is the image, and how it holds its channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.sources.onnx_input import image_input
from onnx import TensorProto, helper, numpy_helper


def _model(shape: list[Any], *, dtype: int = TensorProto.FLOAT, nodes: tuple[str, ...] = ()) -> onnx.ModelProto:
    """An image through `nodes` (Conv, Transpose, or one element by element) to an output of any shape."""
    made, value = [], "x"
    for i, kind in enumerate(nodes):
        more = {"Transpose": {"perm": [0, 3, 1, 2]}, "Cast": {"to": TensorProto.FLOAT}}.get(kind, {})
        others = {"Conv": ["w"], "Sub": ["one"], "Div": ["one"]}.get(kind, [])
        made.append(helper.make_node(kind, [value, *others], [f"v{i}"], **more))
        value = f"v{i}"
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    return helper.make_model(graph)


@pytest.mark.parametrize(
    ("shape", "nodes", "layout", "channels"),
    [
        (["N", 3, 32, 48], (), "NCHW", 3),
        (["N", 32, 48, 3], (), "NHWC", 3),
        (["N", 1, 32, 48], (), "NCHW", 1),
        (["N", 4, 32, 48], (), "NCHW", 4),
        (["N", 32, 48, 4], (), "NHWC", 4),
        (["N", 12, 32, 32], (), None, 0),  # neither end is far shorter than a side
        (["N", 12, 32, 32], ("Sub", "Div", "Conv"), "NCHW", 12),
        (["N", 16, 16, 16], ("Cast", "Sub", "Transpose", "Conv"), "NHWC", 16),
    ],
)
def test_layout(shape, nodes, layout, channels):
    if layout is None:
        with pytest.raises(ExportError, match="--channels"):
            image_input(_model(shape, nodes=nodes))
        assert image_input(_model(shape, nodes=nodes), channels=12).layout == "NCHW"  # the advice
        return
    found = image_input(_model(shape, nodes=nodes))
    assert (found.layout, found.channels) == (layout, channels)
    assert {found.height, found.width} == {*shape[1:]} - {channels} or channels == 16


def test_channels_that_are_left_open_or_do_not_fit():
    model = _model(["N", "c", 32, 32], nodes=("Conv",))
    assert image_input(model, channels=5).channels == 5
    assert model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 5
    with pytest.raises(ExportError, match="has 3 channels, not 4"):
        image_input(_model(["N", 3, 32, 32], nodes=("Conv",)), channels=4)


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.UINT8, "uint8"), (TensorProto.INT8, "int8")])
def test_integers(kind, dtype):
    assert image_input(_model(["N", 32, 32, 3], dtype=kind, nodes=("Cast",))).dtype == dtype


def test_denotations_and_metadata_are_read():
    model = _model(["N", 12, 12, 12])
    for dim, says in zip(
        model.graph.input[0].type.tensor_type.shape.dim, ["DATA_BATCH", "", "", "DATA_CHANNEL"], strict=True
    ):
        dim.denotation = says
    model.metadata_props.add(key="Image.BitmapPixelFormat", value="Bgr8")
    model.metadata_props.add(key="author", value="somebody")
    found = image_input(model)
    assert (found.layout, found.metadata) == ("NHWC", {"Image.BitmapPixelFormat": "Bgr8"})


def test_one_of_several_inputs_is_the_image():
    model = _model(["N", 3, 32, 32])
    model.graph.input.insert(0, helper.make_tensor_value_info("meta", TensorProto.FLOAT, ["N", 5]))
    assert image_input(model, fixed=["meta"]).name == "x"
    with pytest.raises(ExportError, match=r"'meta' float32 \(N, 5\) beside the image 'x': .* --input meta=meta.npy"):
        image_input(model)
    with pytest.raises(ExportError, match="--input other: the model has no such input, it has 'meta', 'x'"):
        image_input(model, fixed=["other"])
    with pytest.raises(ExportError, match="one has to be the image"):
        image_input(model, fixed=["meta", "x"])
    model.graph.input.append(helper.make_tensor_value_info("depth", TensorProto.FLOAT, ["N", 1, 32, 32]))
    with pytest.raises(ExportError, match=r"takes 3 inputs: 'meta' .*, 'x' .*, 'depth' .*of which one has to be"):
        image_input(model)
    model.graph.input[1].type.denotation = "IMAGE"
    with pytest.raises(ExportError, match="beside the image 'x'"):
        image_input(model)
