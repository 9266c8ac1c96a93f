"""The classifier is cut out of an explained file as it went in, and its layers are found again."""

from __future__ import annotations

from dataclasses import replace

import certified_nets
import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.export.axes.layout import Layout, in_order
from cfcam.export.errors import LayerError
from cfcam.export.precision.plain_model import plain_model
from cfcam.export.proof.session import Session
from onnx_classifiers import exported

VIEWS = {"plain": Layout("NCHW"), "keras": Layout("NHWC"), "tokens": in_order(4, 4, 1)}


@pytest.mark.parametrize("name", VIEWS)
def test_it_gives_what_the_source_gives_and_knows_its_layer(name: str) -> None:
    source = onnx_classifiers.make(name)
    layer = onnx_classifiers.NETS[name][1]
    model, spec = exported(source, layer)
    before = model.SerializeToString()
    plain = plain_model(model, spec)
    assert model.SerializeToString() == before
    assert [entry.name for entry in plain.model.graph.input] == ["image"]
    assert [entry.name for entry in plain.model.graph.output] == [entry.name for entry in source.graph.output]
    assert (plain.views, plain.detail) == ((VIEWS[name],), None)
    size = [entry.dim_value for entry in source.graph.input[0].type.tensor_type.shape.dim][1:]
    image = np.random.default_rng(0).standard_normal((2, *size)).astype(np.float32)
    whole = onnx.shape_inference.infer_shapes(source)
    inner = next(info for info in whole.graph.value_info if info.name == layer)
    source.graph.output.append(inner)
    plain.model.graph.output.append(value_info_of(plain.model, plain.layers[0], inner))
    expected, found = (Session(one).run({"image": image}) for one in (source, plain.model))
    for there, here in zip(expected, found, strict=True):
        a, b = np.asarray(found[here], np.float64), np.asarray(expected[there], np.float64)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def value_info_of(model: onnx.ModelProto, name: str, inner: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """What says of the value `name` what `inner` says of the source's."""
    assert any(name in node.output for node in model.graph.node)
    found = onnx.ValueInfoProto()
    found.CopyFrom(inner)
    found.name = name
    return found


def test_batch_norms_are_folded_where_that_is_wanted() -> None:
    model, spec = exported(certified_nets.mobile())
    folded, kept = (plain_model(model, spec, fold=fold).model for fold in (True, False))
    assert not any(node.op_type == "BatchNormalization" for node in folded.graph.node)
    assert any(node.op_type == "BatchNormalization" for node in kept.graph.node)
    image = np.stack([certified_nets.image(seed) for seed in range(2)])
    a, b = (np.asarray(Session(one).run({"image": image})["logits"], np.float64) for one in (folded, kept))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_layer_whose_cells_lie_otherwise_than_it_says_is_refused() -> None:
    model, spec = exported(onnx_classifiers.make("tokens"), "stream")
    at = next(node for node in model.graph.node if "cam_activations" in node.output)
    at.output[0] = "right"
    model.graph.node.append(onnx.helper.make_node("Transpose", ["right"], ["cam_activations"], perm=[0, 1, 3, 2]))
    with pytest.raises(LayerError, match="the order in which the file gives its cells cannot be told from its graph"):
        plain_model(model, replace(spec, layers=(replace(spec.layer, value="stream"),)))
