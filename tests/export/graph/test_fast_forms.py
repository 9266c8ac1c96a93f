"""Faster operators for the backward pass: the same numbers, and nothing of the plain model touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cfcam.export.graph import Graph
from cfcam.export.graph.fast_forms import use_fast_forms
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser


def model(body: str, inputs: str, weights: dict[str, np.ndarray] | None = None, outputs: str = "y") -> ModelProto:
    """Outputs are float32 and of unknown shape. The first is the model's own, the rest belong to the gradient."""
    head = '<ir_version: 9, opset_import: ["" : 18]>'
    made = parser.parse_model(f"{head} g ({inputs}) => (float[] plain) {{ plain = Identity(seed)\n {body} }}")
    del made.graph.output[:]
    for name in ("plain", *outputs.split()):
        made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    made.graph.initializer.extend(numpy_helper.from_array(w, name) for name, w in (weights or {}).items())
    return made


def run(made: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


def operators(made: ModelProto) -> list[str]:
    return [node.op_type for node in made.graph.node]


def fast_forms(made: ModelProto, plain_outputs: list[str]) -> int:
    """`use_fast_forms` on a model, in place."""
    graph = Graph(made)
    rewritten = use_fast_forms(graph, plain_outputs)
    made.CopyFrom(graph.to_model())
    return rewritten


def check(
    made: ModelProto, feeds: dict[str, np.ndarray], rewritten: int, *, exact: bool = False, scale: float = 1e-6
) -> ModelProto:
    """Rewrite a copy, compare what both compute, and return the copy."""
    fast = ModelProto()
    fast.CopyFrom(made)
    assert fast_forms(fast, ["plain"]) == rewritten
    onnx.shape_inference.infer_shapes(fast, check_type=True, strict_mode=True)
    for was, now in zip(run(made, feeds), run(fast, feeds), strict=True):
        assert was.shape == now.shape
        np.testing.assert_allclose(now, was, rtol=0 if exact else 1e-5, atol=0 if exact else scale)
    assert fast_forms(fast, ["plain"]) == 0
    return fast


SEED = "float[1] seed, "
MASKS = [
    ("c = Greater(x, zero)\n y = Where(c, g, zero)", ["Greater"]),
    ("c = Greater(x, zero)\n y = Where(c, zero, g)", ["LessOrEqual"]),
    ("c = LessOrEqual(x, zero)\n y = Where(c, zero, g)", ["Greater"]),
    ("c = Less(x, zero)\n y = Where(c, zero, g)", ["GreaterOrEqual"]),
    ("c = GreaterOrEqual(x, zero)\n y = Where(c, zero, g)", ["Less"]),
    ("c = Equal(x, zero)\n y = Where(c, zero, g)", ["Equal", "Not"]),
    ("d = Equal(x, zero)\n c = Not(d)\n y = Where(c, zero, g)", ["Equal"]),
    (
        "a = LessOrEqual(x, zero)\n b = GreaterOrEqual(x, one)\n c = Or(a, b)\n y = Where(c, zero, g)",
        ["Greater", "Less", "And"],
    ),
]


@pytest.mark.parametrize(("body", "comparisons"), MASKS)
def test_a_choice_between_a_gradient_and_zero_is_a_product(body: str, comparisons: list[str]) -> None:
    constants = {"zero": np.zeros((), np.float32), "one": np.ones((), np.float32)}
    used = {name: value for name, value in constants.items() if name in body}
    made = model(body, SEED + "float[N, 3, 4] x, float[N, 3, 4] g", used)
    x = np.array([-2, -0.0, 0, 0.5, 1, 7] * 4, np.float32).reshape(2, 3, 4)
    g = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    fast = check(made, {"seed": np.ones(1, np.float32), "x": x, "g": g}, 1, exact=True)
    assert operators(fast) == ["Identity", *comparisons, "Cast", "Mul"]
    assert "Where" in operators(made)


def test_masks_broadcast_and_are_made_once() -> None:
    body = "c = Greater(x, zero)\n y = Where(c, g, zero)\n z = Where(c, h, zero)"
    made = model(
        body,
        SEED + "float[N, 3, 1] x, float[N, 3, 4] g, float[N, 1, 1] h",
        {"zero": np.zeros(1, np.float32)},
        "y z",
    )
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("x", (2, 3, 1)), ("g", (2, 3, 4)))}
    feeds |= {"h": rng.standard_normal((2, 1, 1)).astype(np.float32), "seed": np.ones(1, np.float32)}
    assert operators(check(made, feeds, 2)).count("Cast") == 1


def test_what_is_no_mask_stays() -> None:
    zero = {"zero": np.zeros((), np.float32), "few": np.array([0, 1], np.float32)}
    body = "c = Greater(x, zero)\n y = Where(c, g, x)\n z = Where(c, g, few)"
    made = model(body, SEED + "float[N, 2] x, float[N, 2] g", zero, "y z")
    assert fast_forms(made, ["plain"]) == 0
    classes = "c = Less(t, none)\n k = Where(c, none, t)\n y = Cast<to: int = 1>(k)"
    made = model(classes, SEED + "int64[N] t", {"none": np.zeros((), np.int64)})
    assert fast_forms(made, ["plain"]) == 0


def transposed(weight: tuple[int, ...], grid: tuple[int, ...], bias: bool = False, **attributes: Any) -> ModelProto:
    rng = np.random.default_rng(0)
    group = attributes.get("group", 1)
    weights = {"w": rng.standard_normal(weight).astype(np.float32)}
    if bias:
        weights["b"] = rng.standard_normal(weight[1] * group).astype(np.float32)
    sizes = ", ".join(["N", str(weight[0]), *map(str, grid)])
    made = model("y = ConvTranspose(g, w)" if not bias else "y = ConvTranspose(g, w, b)", SEED + f"float[{sizes}] g")
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    made.graph.node[-1].attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return made


CONVOLUTIONS = {
    "3x3": ((4, 5, 3, 3), (6, 7), {"pads": [1, 1, 1, 1]}, ["Slice", "Transpose", "Conv"]),
    "pointwise": ((4, 5, 1, 1), (6, 7), {}, ["Transpose", "Conv"]),
    "no pads": ((4, 5, 3, 2), (6, 7), {}, ["Slice", "Transpose", "Conv"]),
    "uneven pads": ((4, 5, 3, 3), (6, 7), {"pads": [0, 1, 2, 1]}, ["Slice", "Transpose", "Conv"]),
    "dilated": ((4, 5, 3, 3), (6, 7), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, ["Slice", "Transpose", "Conv"]),
    "depthwise": ((4, 1, 3, 3), (6, 7), {"group": 4, "pads": [1, 1, 1, 1]}, ["Slice", "Conv"]),
    "grouped": (
        (6, 2, 3, 3),
        (5, 4),
        {"group": 3, "pads": [1, 1, 1, 1]},
        ["Slice", "Reshape", "Transpose", "Reshape", "Conv"],
    ),
    "with a bias": ((4, 5, 3, 3), (6, 7), {"pads": [1, 1, 1, 1], "bias": True}, ["Slice", "Transpose", "Conv"]),
    "1-D": ((4, 5, 3), (9,), {"pads": [1, 1]}, ["Slice", "Transpose", "Conv"]),
    "3-D": ((2, 3, 2, 2, 2), (3, 4, 3), {}, ["Slice", "Transpose", "Conv"]),
    "one cell": ((4, 5, 1, 1), (1, 1), {}, ["Reshape", "Reshape", "MatMul", "Reshape"]),
    "a kernel over one cell": ((4, 5, 3, 3), (1, 1), {}, ["Slice", "Transpose", "Conv"]),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_transposed_convolutions_without_stride(case: str) -> None:
    weight, grid, attributes, expected = CONVOLUTIONS[case]
    made = transposed(weight, grid, **attributes)
    g = np.random.default_rng(1).standard_normal((2, weight[0], *grid)).astype(np.float32)
    fast = check(made, {"seed": np.ones(1, np.float32), "g": g}, 1)
    assert operators(fast) == ["Identity", *expected]
    stored = [t.name for t in fast.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert sorted(stored) == sorted(t.name for t in made.graph.initializer)


@pytest.mark.parametrize(
    ("weight", "attributes"),
    [
        ((4, 5, 3, 3), {"strides": [2, 2]}),
        ((256, 256, 3, 3), {"strides": [2, 2]}),  # 6 x 7 cells become 13 x 15: not whole steps
        ((256, 256, 3, 3), {"strides": [2, 1], "pads": [1, 1, 1, 1], "output_padding": [1, 0]}),
        ((256, 256, 1, 1), {"strides": [2, 2], "output_padding": [1, 1]}),
        ((4, 5, 3, 3), {"pads": [3, 3, 3, 3]}),
        ((4, 5, 3, 3), {"dilations": [2, 2], "output_padding": [1, 1]}),
        ((4, 5, 3, 3), {"auto_pad": "SAME_UPPER"}),
        ((4, 5, 3, 3), {"output_shape": [6, 7]}),
    ],
)
def test_other_transposed_convolutions_stay(weight: tuple[int, ...], attributes: dict[str, Any]) -> None:
    made = transposed(weight, (6, 7), **attributes)
    assert fast_forms(made, ["plain"]) == 0
    assert operators(made) == ["Identity", "ConvTranspose"]


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ((2, 2), {"strides": [2, 2]}),
        ((4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((5, 3), {"strides": [2, 2], "pads": [2, 0, 2, 1], "output_padding": [1, 0]}),
        ((3, 3), {"strides": [3, 3]}),
        ((7, 5), {"strides": [3, 3], "pads": [2, 1, 2, 1]}),
    ],
)
def test_strided_ones_with_many_channels_become_phases(kernel: tuple[int, int], attributes: dict[str, Any]) -> None:
    made = transposed((256, 256, *kernel), (4, 3), **attributes)
    g = np.random.default_rng(1).standard_normal((2, 256, 4, 3)).astype(np.float32)
    fast = check(made, {"seed": np.ones(1, np.float32), "g": g}, 1, scale=1e-3)
    assert operators(fast).count("Conv") == attributes["strides"][0] ** 2
    assert operators(fast)[-2:] == ["Concat", "DepthToSpace"]
    assert [t.name for t in fast.graph.initializer if t.data_type == TensorProto.FLOAT] == ["w"]


def test_the_plain_model_is_left_as_it_is() -> None:
    made = transposed((4, 5, 3, 3), (6, 7))
    before = made.SerializeToString()
    assert use_fast_forms(Graph(made), ["plain", "y"]) == 0
    assert made.SerializeToString() == before
