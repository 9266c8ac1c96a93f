"""Forms that the same classifier comes in: opsets, element types, layouts, functions, control flow, large files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import load_model, loading, save_model
from cfcam.export.graph.normalise import NEWEST_OPSET
from cfcam.export.reverse import differentiate, list_layers
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_gradcheck import run_ort
from onnx_nets import (
    CLASSES,
    body,
    classifier,
    conv_head,
    deep_head,
    gated_head,
    images,
    keras_classifier,
    linear_head,
    model,
    quantised_classifier,
    restart,
    stored_twice,
    weights,
)

FEEDS = {"image": images(2), "cam_target": np.array([3, -1])}
# What ONNX Runtime 1.32 itself takes; newer sets are run by the reference evaluator.
ENGINE_OPSET = 24


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    restart()


def run(made: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    if made.opset_import[0].version <= ENGINE_OPSET:
        return run_ort(made, feeds)
    return [np.asarray(v) for v in ReferenceEvaluator(made).run(None, feeds)]  # type: ignore[union-attr]


def changing_classifier(opset: int) -> ModelProto:
    """A network of operators whose form has changed over the opsets, in the form of this one."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        "w1": rng.standard_normal((8, 3, 3, 3)).astype(np.float32) / 5,
        "w2": rng.standard_normal((8, 4, 3, 3)).astype(np.float32) / 5,
        "wh": rng.standard_normal((CLASSES, 8)).astype(np.float32),
    }
    nodes = []

    def add(op: str, inputs: list[str], output: str, by_input: dict | None = None, since: int = 0, **settings) -> None:
        """by_input: attributes that became inputs, in that order, at opset `since`."""
        names = list(inputs)
        for name, value in (by_input or {}).items():
            if opset < since:
                settings[name] = value
            else:
                names.append(f"{output}_{name}")
                kind = np.float32 if isinstance(value, float) or name == "scales" else np.int64
                constants[names[-1]] = np.array(value, kind)
        outputs = output.split()
        nodes.append(helper.make_node(op, names, outputs, name=outputs[0], **settings))

    add("Conv", ["image", "w1"], "c1", pads=[1, 1, 1, 1])
    add("Relu", ["c1"], "a1")
    add("Pad", ["a1"], "p1", {"pads": [0, 0, 1, 0, 0, 0, 1, 2]}, since=11, mode="edge")
    add("Slice", ["p1"], "s1", {"starts": [1, 0], "ends": [13, 12], "axes": [2, 3]}, since=10)
    add(
        "Dropout",
        ["s1"],
        "d1",
        {} if opset < 12 else {"ratio": 0.5},
        since=12,
        **({"ratio": 0.5} if opset < 12 else {}),
    )
    add("Split", ["d1"], "left right", {"split": [4, 4]}, since=13, axis=1)
    add("Concat", ["right", "left"], "turned", axis=1)
    add("MaxPool", ["turned"], "small", kernel_shape=[2, 2], strides=[2, 2])
    if opset < 9:
        nodes.append(helper.make_node("Upsample", ["small"], ["large"], scales=[1.0, 1.0, 2.0, 2.0], mode="nearest"))
    elif opset == 9:
        constants["scales"] = np.array([1, 1, 2, 2], np.float32)
        nodes.append(helper.make_node("Upsample", ["small", "scales"], ["large"], mode="nearest"))
    elif opset == 10:
        constants["scales"] = np.array([1, 1, 2, 2], np.float32)
        nodes.append(helper.make_node("Resize", ["small", "scales"], ["large"], mode="nearest"))
    else:
        constants["scales"] = np.array([1, 1, 2, 2], np.float32)
        nodes.append(
            helper.make_node(
                "Resize",
                ["small", "", "scales"],
                ["large"],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        )
    add("Conv", ["large", "w2"], "c2", pads=[1, 1, 1, 1], group=2)
    add("Clip", ["c2"], "features", {"min": 0.0, "max": 6.0}, since=11)
    add("ReduceMean", ["features"], "pooled", {"axes": [2, 3]}, since=18, keepdims=1)
    add("Squeeze", ["pooled"], "flat", {"axes": [2, 3]}, since=13)
    add("Unsqueeze", ["flat"], "column", {"axes": [2]}, since=13)
    add("Flatten", ["column"], "row", axis=1)
    constants["bias"] = np.zeros(CLASSES, np.float32)
    add("Gemm", ["row", "wh", "bias"], "raw", transB=1)
    add("Softmax", ["raw"], "logits", axis=1)
    return model(nodes, constants, opset=opset, ir=13 if opset > 23 else 10 if opset > 18 else 7)


@pytest.mark.parametrize("opset", range(7, NEWEST_OPSET + 1))
def test_every_opset(opset: int) -> None:
    reference = differentiate(changing_classifier(18), "a1")
    made = differentiate(changing_classifier(opset), "a1")
    assert any(f"converted from opset {opset} to 18" in note for note in made.notes) == (opset < 18)
    for ours, theirs in zip(run(made.model, FEEDS), run(reference.model, FEEDS), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_conversion_gives_the_plain_outputs_of_before() -> None:
    source = changing_classifier(9)
    np.testing.assert_allclose(
        run_ort(source, {"image": FEEDS["image"]})[0], run_ort(differentiate(source).model, FEEDS)[0], rtol=1e-6
    )


@pytest.mark.parametrize("head", [linear_head, conv_head, deep_head, gated_head])
@pytest.mark.parametrize("layer", ["features", "a1"])
def test_half_precision(head, layer: str) -> None:
    """Activations and gradients of a float16 model are given out in float32, near those of the float32 model."""
    nodes, constants = body()
    more, extra = head()
    half = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in {**constants, **extra}.items()}
    source = model([*nodes, *more], half, kind=TensorProto.FLOAT16)
    made = differentiate(source, layer)
    onnx.checker.check_model(made.model, full_check=True)
    x = images(2).astype(np.float16)
    found = run_ort(made.model, {**FEEDS, "image": x})
    assert [v.dtype for v in found] == [np.float16, np.float32, np.float32, np.int64]
    wide = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in half.items()}
    same = differentiate(model([*nodes, *more], wide), layer)
    want = run_ort(same.model, {"image": x.astype(np.float32), "cam_target": found[3]})
    for ours, theirs in zip(found[1:3], want[1:3], strict=True):
        # 11 bits of precision through a few layers; masks may flip in single cells.
        assert np.linalg.norm(ours - theirs) <= 2e-2 * np.linalg.norm(theirs)
    assert not stored_twice(made.model)


def test_half_precision_weights_behind_casts() -> None:
    """Weights stored in float16 and cast where they are used."""
    nodes, constants = body()
    more, extra = linear_head()
    small = {**constants, **extra}
    casts = []
    for name in ("w2", "wh"):
        small[name] = small[name].astype(np.float16)
        casts.append(helper.make_node("Cast", [name], [f"{name}_wide"], to=TensorProto.FLOAT))
        for node in (*nodes, *more):
            node.input[:] = [f"{name}_wide" if n == name else n for n in node.input]
    made = differentiate(model([*casts, *nodes, *more], small), "a1")
    wide = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in small.items()}
    plain, _ = body()
    head, _ = linear_head()
    same = differentiate(model([*plain, *head], wide), "a1")
    for ours, theirs in zip(run_ort(made.model, FEEDS), run_ort(same.model, FEEDS), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not stored_twice(made.model)


def test_channels_last_graphs_of_keras() -> None:
    """The same network before and after tf2onnx moved its transpositions: one answer."""
    whole = keras_classifier(optimised=False)
    restart()
    lean = keras_classifier(optimised=True)
    feeds = {"input_1": images(2).transpose(0, 2, 3, 1), "cam_target": np.array([3, -1])}
    made = [differentiate(m) for m in (whole, lean)]
    assert [m.layer.layout for m in made] == ["NHWC", "NCHW"]
    assert {m.layer.node for m in made} == {"model/top_relu"}
    assert {m.score.kind for m in made} == {"softmax"}
    first, second = (run_ort(m.model, feeds) for m in made)
    assert first[1].shape == (2, 6, 3, 3)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    # A middle layer, inside the transpositions and outside.
    middle = [differentiate(m, "model/add").model for m in (whole, lean)]
    a, b = (run_ort(m, feeds) for m in middle)
    assert a[1].shape == b[1].shape == (2, 8, 6, 6)
    np.testing.assert_allclose(a[2], b[2], rtol=1e-3, atol=1e-6)


def test_quantised_graph() -> None:
    """The gradient of the network that runs: through the rounded weights, straight through the rounding."""
    source = quantised_classifier()
    made = differentiate(source, "c2")
    values = run_ort(made.model, {**FEEDS, "cam_target": np.array([2, 2])})
    arrays = {t.name: numpy_helper.to_array(t) for t in source.graph.initializer}
    row = (arrays["wh_q"][2] * arrays["wh_s"][2]).astype(np.float32)
    c2 = values[1]
    inside = (c2 > 0) & (c2 / arrays["features_s"] < 255.5)
    pooled = np.round(np.clip(c2, 0, None) / 0.01).clip(0, 255).mean((2, 3)) * 0.01
    assert (pooled < 2.55).all()
    np.testing.assert_allclose(values[2], inside * row[:, None, None] / 36, rtol=1e-5, atol=1e-8)


# -- functions and control flow


def test_nested_functions_with_attributes() -> None:
    source = classifier()
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    slope = helper.make_node("LeakyRelu", ["v"], ["r"], name="leak")
    reference = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    slope.attribute.append(reference)
    inner = helper.make_function("local", "Leak", ["v"], ["r"], [slope], imports[:1], attributes=["slope"])
    call = helper.make_node("Leak", ["v"], ["w"], domain="local", slope=0.25)
    twice = helper.make_node("Add", ["w", "w"], ["r"])
    outer = helper.make_function("local", "Double", ["v"], ["r"], [call, twice], imports)
    source.functions.extend([inner, outer])
    source.opset_import.append(imports[1])
    plain = ModelProto()
    plain.CopyFrom(source)
    del plain.functions[:]
    nodes = []
    for node in plain.graph.node:
        if node.name != "act2":
            nodes.append(node)
            continue
        nodes.append(helper.make_node("LeakyRelu", ["n2"], ["leaked"], alpha=0.25))
        nodes.append(helper.make_node("Add", ["leaked", "leaked"], ["features"], name="act2"))
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del plain.graph.node[:]
    plain.graph.node.extend(kept)
    for node in source.graph.node:
        if node.name == "act2":
            node.op_type, node.domain = "Double", "local"
    made = differentiate(source, "a1")
    assert any("2 model-local functions were inlined" in note for note in made.notes)
    for ours, theirs in zip(run_ort(made.model, FEEDS), run_ort(differentiate(plain, "a1").model, FEEDS), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_function_of_an_older_opset() -> None:
    source = classifier(opset=18)
    square = helper.make_node("Squeeze", ["v"], ["r"], axes=[2, 3])
    source.functions.append(helper.make_function("local", "Old", ["v"], ["r"], [square], [helper.make_opsetid("", 11)]))
    source.opset_import.append(helper.make_opsetid("local", 1))
    for node in source.graph.node:
        if node.op_type == "Flatten":
            node.op_type, node.domain = "Old", "local"
    for ours, theirs in zip(
        run_ort(differentiate(source).model, FEEDS), run_ort(differentiate(classifier()).model, FEEDS), strict=True
    ):
        assert ours.shape == theirs.shape


@pytest.mark.parametrize("op", ["Loop", "Scan"])
def test_loops_are_refused_with_the_nearest_layer(op: str) -> None:
    nodes, constants = body()
    more, head = linear_head()
    nodes[3].input[0] = "odd"
    info = helper.make_tensor_value_info
    if op == "Loop":
        step = helper.make_graph(
            [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Relu", ["old"], ["new"])],
            "step",
            [
                info("i", TensorProto.INT64, []),
                info("going", TensorProto.BOOL, []),
                info("old", TensorProto.FLOAT, None),
            ],
            [info("on", TensorProto.BOOL, []), info("new", TensorProto.FLOAT, None)],
        )
        node = helper.make_node("Loop", ["count", "", "a1"], ["odd"], name="repeat", body=step)
    else:
        step = helper.make_graph(
            [helper.make_node("Relu", ["old"], ["new"])],
            "step",
            [info("old", TensorProto.FLOAT, None)],
            [info("new", TensorProto.FLOAT, None)],
        )
        node = helper.make_node("Scan", ["a1"], ["odd"], name="repeat", body=step, num_scan_inputs=1)
    source = model([*nodes[:3], node, *nodes[3:], *more], {**constants, **head, "count": np.array(3)})
    source.graph.value_info.append(helper.make_tensor_value_info("odd", TensorProto.FLOAT, ["N", 8, 6, 6]))
    message = rf"{op} node 'repeat': control flow .*layer 'a1' reaches it by 'a1'; the nearest layer .* 'odd'"
    with pytest.raises(UnsupportedOperatorError, match=message):
        differentiate(source, "a1")
    assert differentiate(source, "features").layer.name == "features"


# -- large files


def test_files_beyond_the_limit_of_protobuf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered for the test: source and result have their weights beside them."""
    monkeypatch.setattr(loading, "INLINE_LIMIT", 1000)
    source = classifier(deep_head)
    save_model(source, tmp_path / "big.onnx")
    assert (tmp_path / "big.onnx.data").stat().st_size > 10000
    made = differentiate(load_model(tmp_path / "big.onnx"), "a1")
    save_model(made.model, tmp_path / "big.cam.onnx")
    assert (tmp_path / "big.cam.onnx").stat().st_size < (tmp_path / "big.cam.onnx.data").stat().st_size
    onnx.checker.check_model(str(tmp_path / "big.cam.onnx"))
    session = ort.InferenceSession(str(tmp_path / "big.cam.onnx"), providers=["CPUExecutionProvider"])
    want = run_ort(differentiate(source, "a1").model, FEEDS)
    for ours, theirs in zip((np.asarray(v) for v in session.run(None, FEEDS)), want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_helpers_never_see_the_large_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shape inference, conversion and inlining get what fits into one message, however large the model is."""
    seen: list[int] = []
    infer, convert = onnx.shape_inference.infer_shapes, onnx.version_converter.convert_version

    def watch(call):
        def watched(given, *rest, **settings):
            seen.append(given.ByteSize())
            return call(given, *rest, **settings)

        return watched

    source = classifier(lambda: wide_head(4000), opset=11)
    assert source.ByteSize() > 3_000_000
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watch(infer))
    monkeypatch.setattr(onnx.version_converter, "convert_version", watch(convert))
    differentiate(source, "a1")
    assert len(seen) >= 3
    assert max(seen) < 40_000


def wide_head(width: int):
    nodes = [
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("Gemm", ["flat", "wa"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "wh"], ["logits"], transB=1),
    ]
    return nodes, {"wa": weights(width, 216), "wh": weights(CLASSES, width)}


def test_sizes_of_minus_one_are_free() -> None:
    source = classifier()
    source.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    made = differentiate(source)
    assert "a size of -1 of input 'image' was read as free" in made.notes
    assert run_ort(made.model, FEEDS)[1].shape == (2, 6, 6, 6)


def test_unsorted_nodes() -> None:
    source = classifier()
    nodes = list(source.graph.node)[::-1]
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del source.graph.node[:]
    source.graph.node.extend(kept)
    want = run_ort(differentiate(source).model, FEEDS)
    assert want[1].shape == (2, 6, 6, 6)
    assert [c.name for c in list_layers(source)] == ["a1", "features"]


def test_stale_shapes_are_not_believed() -> None:
    """Somebody changed the size of the input after the shapes were written down."""
    source = classifier(gated_head)
    assert any(i.name == "features" for i in source.graph.value_info)
    for axis in (2, 3):
        source.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 20
    made = differentiate(source)
    assert made.layer.grid == (10, 10)
    fresh = differentiate(cleared(source))
    feeds = {**FEEDS, "image": images(2, 20)}
    for ours, theirs in zip(run_ort(made.model, feeds), run_ort(fresh.model, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def cleared(source: ModelProto) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(source)
    del made.graph.value_info[:]
    return made
