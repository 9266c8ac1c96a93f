"""Class gradients of a layer, added to whole classifiers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cfcam.export.errors import ExportError, LayerError, UnsupportedOperatorError
from cfcam.export.graph import Graph, extract, load_model, normalise
from cfcam.export.reverse import LayerView, differentiate
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_gradcheck import run_ort
from onnx_nets import (
    CLASSES,
    RNG,
    as_double,
    body,
    classifier,
    conv_head,
    deep_head,
    gated_head,
    images,
    linear_head,
    matmul_head,
    model,
    stored_twice,
    token_classifier,
    weights,
)
from shared_data import shared_path


def assert_gradient_is_that_of_the_tail(source: ModelProto, made, feeds: dict, rtol: float = 2e-4) -> list[np.ndarray]:
    """Differences of the activations, through the tail that is cut out of the plain model, in float64."""
    names = [o.name for o in made.model.graph.output]
    values = dict(zip(names, run_ort(made.model, feeds), strict=True))
    graph = Graph(normalise(source)[0])
    tail = ReferenceEvaluator(as_double(extract(graph, [made.layer.name], [made.score.value])))
    held = graph.shape(made.layer.name)
    assert held is not None
    activations, gradients = (values[n].astype(np.float64) for n in ("cam_activations", "cam_gradients"))
    chosen = values["cam_class"]

    def score(maps: np.ndarray) -> np.ndarray:
        back = maps.transpose(0, 2, 3, 1) if made.layer.layout == "NHWC" else maps
        (out,) = tail.run(None, {made.layer.name: back})
        return np.asarray(out).reshape(len(maps), -1)[np.arange(len(maps)), chosen]

    for _ in range(3):
        direction = RNG.standard_normal(activations.shape)
        step = 1e-6
        want = (score(activations + step * direction) - score(activations - step * direction)) / (2 * step)
        got = (gradients * direction).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max())
    return list(values.values())


def test_contract_of_the_outputs() -> None:
    source = classifier()
    made = differentiate(source)
    onnx.checker.check_model(made.model, full_check=True)
    assert [i.name for i in made.model.graph.input] == ["image", "cam_target"]
    assert [o.name for o in made.model.graph.output] == ["logits", "cam_activations", "cam_gradients", "cam_class"]
    assert (made.layer.name, made.layer.grid, made.layer.channels, made.pooled) == ("features", (6, 6), 6, True)
    assert (made.score.kind, made.score.classes) == ("logits", CLASSES)
    assert made.model.ir_version == 9
    x = images(3)
    targets = np.array([-1, 2, -1])
    logits, activations, gradients, chosen = assert_gradient_is_that_of_the_tail(
        source, made, {"image": x, "cam_target": targets}
    )
    (plain,) = run_ort(source, {"image": x})
    np.testing.assert_allclose(logits, plain, rtol=1e-5, atol=1e-6)
    assert chosen.tolist() == [plain[0].argmax(), 2, plain[2].argmax()]
    assert activations.shape == gradients.shape == (3, 6, 6, 6)


def test_source_is_not_changed() -> None:
    source = classifier()
    before = source.SerializeToString(deterministic=True)
    differentiate(source, "a1")
    assert source.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("head", [linear_head, conv_head, matmul_head])
def test_head_of_one_linear_layer_costs_a_gathered_row(head) -> None:
    made = differentiate(classifier(head))
    added = [n.op_type for n in made.model.graph.node if n.name.startswith("cam")]
    free = {"Reshape", "Identity", "Transpose", "Unsqueeze"}
    assert sorted(set(added) - free) == ["ArgMax", "Gather", "Less", "Mul", "Where"]
    assert added.count("Mul") == added.count("Gather") == 1
    assert not stored_twice(made.model)


@pytest.mark.parametrize("head", [linear_head, conv_head, matmul_head, deep_head, gated_head])
@pytest.mark.parametrize("layer", ["features", "a1"])
@pytest.mark.parametrize("batch", ["N", 2])
def test_heads_and_layers(head, layer: str, batch) -> None:
    source = classifier(head, batch=batch)
    made = differentiate(source, layer)
    onnx.checker.check_model(made.model, full_check=True)
    assert not stored_twice(made.model)
    x = images(2)
    values = assert_gradient_is_that_of_the_tail(source, made, {"image": x, "cam_target": np.array([3, -1])})
    # Gradients move with the target.
    other = run_ort(made.model, {"image": x, "cam_target": np.array([4, -1])})
    assert np.abs(other[2][0] - values[2][0]).max() > 1e-4
    np.testing.assert_allclose(other[2][1], values[2][1], rtol=1e-6)


@pytest.mark.parametrize("head", [linear_head, deep_head, gated_head])
def test_a_batch_equals_its_singles(head) -> None:
    made = differentiate(classifier(head), "a1")
    x, targets = images(3), np.array([1, -1, 5])
    together = run_ort(made.model, {"image": x, "cam_target": targets})
    for i in range(3):
        alone = run_ort(made.model, {"image": x[i : i + 1], "cam_target": targets[i : i + 1]})
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a[0], b[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("op", "kind"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid"), ("LogSoftmax", "logits")])
def test_score_behind_a_final_activation(op: str, kind: str) -> None:
    source = classifier(lambda: linear_head("raw"), [helper.make_node(op, ["raw"], ["logits"])])
    made = differentiate(source)
    assert (made.score.kind, made.score.value, made.score.output) == (kind, "raw", "logits")
    plain = differentiate(classifier())
    x = images(2)
    feeds = {"image": x, "cam_target": np.array([0, 1])}
    assert run_ort(made.model, feeds)[2].shape == run_ort(plain.model, feeds)[2].shape
    assert_gradient_is_that_of_the_tail(source, made, feeds)


def test_softmax_before_the_flatten() -> None:
    nodes, constants = conv_head()
    nodes[-1] = helper.make_node("Softmax", ["maps"], ["probabilities"], axis=1)
    nodes.append(helper.make_node("Flatten", ["probabilities"], ["logits"]))
    source = classifier(lambda: (nodes, constants))
    made = differentiate(source)
    assert (made.score.kind, made.score.value) == ("softmax", "maps")
    assert_gradient_is_that_of_the_tail(source, made, {"image": images(2), "cam_target": np.array([3, -1])})


def test_one_logit() -> None:
    def head():
        nodes, _ = linear_head()
        return nodes, {"wh": weights(1, 6), "bh": weights(1)}

    source = classifier(head)
    made = differentiate(source)
    assert (made.score.kind, made.score.classes) == ("binary", 1)
    values = assert_gradient_is_that_of_the_tail(source, made, {"image": images(2), "cam_target": np.array([-1, 0])})
    assert values[3].tolist() == [0, 0]


def test_second_output_named_by_the_user() -> None:
    nodes, constants = body()
    more, extra = linear_head()
    other = helper.make_node("Gemm", ["flat", "wo"], ["other"], transB=1)
    source = model([*nodes, *more, other], {**constants, **extra, "wo": weights(4, 6)}, outputs=("logits", "other"))
    made = differentiate(source, score="other")
    assert made.score.classes == 4
    assert [o.name for o in made.model.graph.output][:2] == ["logits", "other"]


def test_layer_by_node_name_and_before_its_activation() -> None:
    source = classifier()
    assert differentiate(source, "act1").layer.name == "a1"
    made = differentiate(source, "c2")
    assert made.layer.name == "c2"
    assert_gradient_is_that_of_the_tail(source, made, {"image": images(2), "cam_target": np.array([1, -1])})


def test_batch_norms_behind_the_layer_are_folded() -> None:
    made = differentiate(classifier(), "a1")
    kinds = [n.op_type for n in made.model.graph.node]
    assert kinds.count("BatchNormalization") == 1  # the one before the layer is the engine's affair
    assert "1 batch normalisations behind the layer were folded into their convolutions" in made.notes


def test_layer_that_is_an_output_keeps_its_name() -> None:
    nodes, constants = body()
    more, extra = linear_head()
    source = model([*nodes, *more], {**constants, **extra}, outputs=("logits", "features"))
    made = differentiate(source)
    assert made.value == "features"
    feeds = {"image": images(1), "cam_target": np.array([-1])}
    values = dict(zip([o.name for o in made.model.graph.output], run_ort(made.model, feeds), strict=True))
    np.testing.assert_array_equal(values["features"], values["cam_activations"])


def test_channels_last_comes_out_channels_first() -> None:
    nodes, constants = body()
    nodes.append(helper.make_node("Transpose", ["features"], ["last"], perm=[0, 2, 3, 1]))
    more = [
        helper.make_node("ReduceMean", ["last", "hw"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "wh"], ["logits"]),
    ]
    source = model([*nodes, *more], {**constants, "wh": weights(6, CLASSES), "hw": np.array([1, 2])})
    made = differentiate(source)
    assert (made.layer.name, made.layer.layout, made.layer.grid) == ("last", "NHWC", (6, 6))
    assert_gradient_is_that_of_the_tail(source, made, {"image": images(2), "cam_target": np.array([3, -1])})


def test_tokens_come_out_as_a_grid() -> None:
    source = token_classifier()
    made = differentiate(source)
    layer = made.layer
    assert (layer.name, layer.layout, layer.grid, layer.prefix_tokens) == ("stream", "NTC", (4, 4), 1)
    feeds = {"image": images(2), "cam_target": np.array([3, -1])}
    _, activations, gradients, chosen = run_ort(made.model, feeds)
    assert activations.shape == gradients.shape == (2, 5, 4, 4)
    graph = Graph(normalise(source)[0])
    tail = ReferenceEvaluator(as_double(extract(graph, ["stream"], ["logits"])))
    (stream,) = run_ort(extract(graph, ["image"], ["stream"]), {"image": feeds["image"]})
    np.testing.assert_allclose(activations, stream[:, 1:].transpose(0, 2, 1).reshape(2, 5, 4, 4), rtol=1e-6)
    direction = RNG.standard_normal((2, 5, 4, 4))
    shift = np.zeros(stream.shape)
    shift[:, 1:] = direction.reshape(2, 5, 16).transpose(0, 2, 1)

    def score(tokens: np.ndarray) -> np.ndarray:
        (out,) = tail.run(None, {"stream": tokens})
        return np.asarray(out)[np.arange(2), chosen]

    base = stream.astype(np.float64)
    want = (score(base + 1e-6 * shift) - score(base - 1e-6 * shift)) / 2e-6
    np.testing.assert_allclose((gradients * direction).sum(axis=(1, 2, 3)), want, rtol=1e-3, atol=1e-5)


def test_grid_of_tokens_given_by_the_user() -> None:
    made = differentiate(token_classifier(), view=LayerView(grid=(2, 8)))
    assert (made.layer.grid, made.layer.prefix_tokens) == ((2, 8), 1)
    with pytest.raises(LayerError, match="17 tokens"):
        differentiate(token_classifier(), view=LayerView(grid=(5, 4)))


def test_float16_model() -> None:
    nodes, constants = body()
    more, extra = linear_head()
    half = {k: v.astype(np.float16) for k, v in {**constants, **extra}.items()}
    source = model([*nodes, *more], half, kind=TensorProto.FLOAT16)
    made = differentiate(source)
    onnx.checker.check_model(made.model, full_check=True)
    values = run_ort(made.model, {"image": images(2).astype(np.float16), "cam_target": np.array([2, -1])})
    assert [v.dtype for v in values] == [np.float16, np.float32, np.float32, np.int64]
    np.testing.assert_allclose(values[2][0, :, 0, 0] * 36, half["wh"][2].astype(np.float32), rtol=2e-3)


def test_old_opset_is_converted_and_said() -> None:
    source = classifier(opset=9)
    made = differentiate(source, "a1")
    assert any("opset 9" in note for note in made.notes)
    assert made.model.opset_import[0].version == 18
    assert_gradient_is_that_of_the_tail(source, made, {"image": images(2), "cam_target": np.array([3, -1])})


def test_newest_opset_is_kept() -> None:
    source = classifier(opset=21)
    made = differentiate(source)
    assert made.model.opset_import[0].version == 21
    assert made.notes == []


def test_initializers_listed_as_inputs_and_unnamed_nodes() -> None:
    source = classifier()
    for tensor in source.graph.initializer:
        source.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for node in source.graph.node:
        node.name = "same" if node.op_type == "Conv" else ""
    made = differentiate(source)
    assert [i.name for i in made.model.graph.input] == ["image", "cam_target"]
    names = [n.name for n in made.model.graph.node]
    assert "" not in names
    assert len(set(names)) == len(names)
    assert_gradient_is_that_of_the_tail(source, made, {"image": images(2), "cam_target": np.array([3, -1])})


def test_local_functions_are_inlined() -> None:
    source = classifier()
    function = helper.make_function(
        "local", "Rectify", ["v"], ["r"], [helper.make_node("Relu", ["v"], ["r"])], [helper.make_opsetid("", 18)]
    )
    source.functions.append(function)
    source.opset_import.append(helper.make_opsetid("local", 1))
    for node in source.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Rectify", "local"
    made = differentiate(source, "a1")
    assert any("inlined" in note for note in made.notes)
    assert not made.model.functions
    run_ort(made.model, {"image": images(2), "cam_target": np.array([3, -1])})


def test_default_is_a_value_that_every_way_passes() -> None:
    """The pooling that comes last in the file belongs to a side branch here."""

    def head():
        nodes = [
            helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
            helper.make_node("Conv", ["features", "we"], ["side"]),
            helper.make_node("Sigmoid", ["side"], ["gates"]),
            helper.make_node("GlobalAveragePool", ["gates"], ["gate"]),
            helper.make_node("Mul", ["pooled", "gate"], ["both"]),
            helper.make_node("Flatten", ["both"], ["flat"]),
            helper.make_node("Gemm", ["flat", "wh"], ["logits"], transB=1),
        ]
        return nodes, {"we": weights(6, 6, 1, 1), "wh": weights(CLASSES, 6)}

    source = classifier(head)
    made = differentiate(source)
    assert made.layer.name == "features"
    assert_gradient_is_that_of_the_tail(source, made, {"image": images(2), "cam_target": np.array([3, -1])})


# -- refusals


def test_model_without_a_score() -> None:
    nodes, constants = body()
    source = model(nodes, constants, outputs=("features",))
    with pytest.raises(
        ExportError, match=r"no output has the shape \(N, classes\).*'features' \(N, 6, 6, 6\).*--score"
    ):
        differentiate(source)


def test_already_exported_model() -> None:
    made = differentiate(classifier())
    with pytest.raises(ExportError, match="cam_activations"):
        differentiate(made.model)


def unsupported(op: str, **attributes) -> ModelProto:
    nodes, constants = body()
    odd = helper.make_node(op, ["a1"], ["odd"], name="oddity", **attributes)
    nodes[3].input[0] = "odd"
    more, extra = linear_head()
    made = model([*nodes[:3], odd, *nodes[3:], *more], {**constants, **extra})
    info = helper.make_tensor_value_info("odd", TensorProto.FLOAT, ["N", 8, 6, 6])
    made.graph.value_info.append(info)
    return made


def test_operator_without_a_rule() -> None:
    source = unsupported("Det")
    source.graph.node[3].op_type = "Strange"
    source.graph.node[3].domain = "vendor"
    source.opset_import.append(helper.make_opsetid("vendor", 1))
    source = onnx.shape_inference.infer_shapes(source)
    message = (
        "vendor::Strange node 'oddity' has no derivative rule; layer 'a1' reaches it by 'a1'; "
        "the nearest layer behind it that works is 'odd'"
    )
    with pytest.raises(UnsupportedOperatorError, match=message):
        differentiate(source, "a1")
    # Off the path nothing is asked.
    assert differentiate(source, "features").layer.name == "features"


def test_integer_only_operators() -> None:
    source = unsupported("Det")
    source.graph.node[3].op_type = "DynamicQuantizeLinear"
    source.graph.node[3].output.extend(["scale", "zero"])
    nodes = list(source.graph.node)
    nodes.insert(4, helper.make_node("DequantizeLinear", ["odd", "scale", "zero"], ["real"]))
    nodes[5].input[0] = "real"
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    del source.graph.value_info[:]
    with pytest.raises(UnsupportedOperatorError, match=r"DynamicQuantizeLinear node 'oddity'.*QDQ form"):
        differentiate(source, "a1")


def test_control_flow() -> None:
    value = helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)
    branches = [
        helper.make_graph([helper.make_node(op, ["a1"], ["inside"])], op, [], [value]) for op in ("Relu", "Tanh")
    ]
    source = unsupported("Det")
    node = helper.make_node("If", ["flag"], ["odd"], name="fork", then_branch=branches[0], else_branch=branches[1])
    source.graph.node[3].CopyFrom(node)
    source.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    with pytest.raises(UnsupportedOperatorError, match=r"If node 'fork': control flow .* choose a layer behind it"):
        differentiate(source, "a1")
    assert differentiate(source, "features").layer.name == "features"


# -- real files


@pytest.mark.parametrize(
    ("file", "layers"),
    [
        ("mobilenet_v2_1.0_224.onnx", {None: "t168", "t153": "t153"}),
        ("mobilenet_v1_0.5_160.onnx", {None: "t83", "t81": "t81"}),
    ],
)
def test_real_model(file: str, layers: dict) -> None:
    source = load_model(shared_path(f"models/{file}"))
    size = source.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    # A generator of its own: which masks float32 flips must not depend on the tests that ran before.
    x = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    (plain,) = run_ort(source, {"input": x})
    for asked, name in layers.items():
        made = differentiate(source, asked)
        assert made.layer.name == name
        assert made.pooled == (asked is None)
        assert not stored_twice(made.model)
        onnx.checker.check_model(made.model, full_check=True)
        feeds = {"input": x, "cam_target": np.array([196, -1])}
        values = assert_gradient_is_that_of_the_tail(source, made, feeds, rtol=1e-4)
        assert np.abs(values[0] - plain).max() <= 1e-5 * np.abs(plain).max()
