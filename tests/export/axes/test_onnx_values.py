"""Layers of ONNX transformers: tokens and channels-last values are told from attention and windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.export.reverse import differentiate, list_layers
from cfcam.export.reverse.candidate import Values
from cfcam.export.reverse.candidates import Candidate
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import find_score
from onnx import ModelProto, TensorProto, helper, numpy_helper

RNG = np.random.default_rng(4)
C, H, W = 8, 6, 4  # patches of 4 on images of 24x16


def model(nodes: list, constants: dict[str, Any], batch: str | int = "N") -> ModelProto:
    """Patches (N, C, H, W) as value "patches", then `nodes` to "pooled" (N, C), and a linear head."""
    weights = {"w": RNG.standard_normal((C, 3, 4, 4)), "wh": RNG.standard_normal((C, 5)), "wl": np.eye(C)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["patches"], strides=[4, 4]),
            *nodes,
            helper.make_node("MatMul", ["pooled", "wh"], ["logits"]),
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 24, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 5])],
        [
            numpy_helper.from_array(v.astype(np.float32) if v.dtype == np.float64 else np.asarray(v), k)
            for k, v in {**weights, **constants}.items()
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def layers(made: ModelProto) -> tuple[dict[str, Candidate], Candidate]:
    known = list_layers(made)
    (default,) = [layer for layer in known if layer.default]
    return {layer.name: layer for layer in known}, default


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def sizes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def tokens_with_prefix() -> tuple[list, dict[str, np.ndarray]]:
    """ "tokens" (N, 2 + H * W, C): two tokens of no place, then the grid's."""
    nodes = [
        node("Reshape", "patches flat", "rows"),
        node("Transpose", "rows", "grid", perm=[0, 2, 1]),
        node("Shape", "image", "size", end=1),
        node("Concat", "size two", "wide", axis=0),
        node("Expand", "extra wide", "repeated"),
        node("Concat", "repeated grid", "tokens", axis=1),
    ]
    return nodes, {"flat": sizes(0, C, -1), "two": sizes(2, C), "extra": RNG.standard_normal((1, 2, C))}


def attention(source: str, output: str) -> list:
    """Every token reads the others: source + softmax(q q^T) q."""
    return [
        node("MatMul", f"{source} wl", f"{output}_q"),
        node("Transpose", f"{output}_q", f"{output}_k", perm=[0, 2, 1]),
        node("MatMul", f"{output}_q {output}_k", f"{output}_scores"),
        node("Softmax", f"{output}_scores", f"{output}_p"),
        node("MatMul", f"{output}_p {output}_q", f"{output}_mixed"),
        node("Add", f"{source} {output}_mixed", output),
    ]


def test_behind_class_tokens_the_default_enters_the_last_attention() -> None:
    nodes, constants = tokens_with_prefix()
    nodes += [
        *attention("tokens", "first"),
        *attention("first", "second"),
        node("Gather", "second zero", "pooled", axis=1),
    ]
    made = model(nodes, {**constants, "zero": np.array(0, np.int64)})
    known, default = layers(made)
    assert (default.name, default.layout, default.grid, default.prefix_tokens) == ("first", "NTC", (H, W), 2)
    assert default.channels == C
    assert differentiate(made).layer.grid == (H, W)  # not square
    assert "first_scores" not in known  # tokens by tokens is no grid
    assert "second_k" not in known


def test_before_attention_pooling_the_default_is_what_keys_and_values_are_projected_from() -> None:
    nodes, constants = tokens_with_prefix()
    nodes += [
        *attention("tokens", "first"),
        node("MatMul", "first wkv", "both"),
        node("Add", "both bias", "shifted"),
        node("Split", "shifted", "k v", axis=2, num_outputs=2),
        node("Transpose", "k", "turned", perm=[0, 2, 1]),
        node("MatMul", "query turned", "seen"),
        node("Softmax", "seen", "p"),
        node("MatMul", "p v", "one"),
        node("Squeeze", "one along", "pooled"),
    ]
    constants |= {"wkv": RNG.standard_normal((C, 2 * C)), "bias": RNG.standard_normal(2 * C), "along": sizes(1)}
    _, default = layers(model(nodes, constants | {"query": RNG.standard_normal((1, 1, C))}))
    assert (default.name, default.channels, default.prefix_tokens) == ("first", C, 2)


def test_a_mean_of_the_grids_tokens_is_a_pooling() -> None:
    nodes, constants = tokens_with_prefix()
    nodes += [
        *attention("tokens", "first"),
        node("Slice", "first from to along", "places"),
        node("ReduceMean", "places along", "pooled", keepdims=0),
    ]
    constants |= {"from": sizes(2), "to": sizes(2**31), "along": sizes(1)}
    _, default = layers(model(nodes, constants))
    assert (default.name, default.grid, default.prefix_tokens) == ("places", (H, W), 0)


@pytest.mark.parametrize("batch", ["N", 1])
def test_windows_are_no_layers_and_channels_last_values_are(batch: str | int) -> None:
    nodes = [
        node("Transpose", "patches", "last", perm=[0, 2, 3, 1]),
        node("Reshape", "last apart", "cut"),
        node("Transpose", "cut", "sorted", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "sorted windows", "inside"),  # (N * 6, 4, C)
        *attention("inside", "mixed"),
        node("Reshape", "mixed again", "back"),
        node("Transpose", "back", "ordered", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "ordered whole", "restored"),
        node("Add", "last restored", "stream"),
        node("ReduceMean", "stream middle", "pooled", keepdims=0),
    ]
    constants = {
        "apart": sizes(-1, H // 2, 2, W // 2, 2, C),
        "windows": sizes(-1, 4, C),
        "again": sizes(-1, H // 2, W // 2, 2, 2, C),
        "whole": sizes(-1, H, W, C),
        "middle": sizes(1, 2),
    }
    known, default = layers(model(nodes, constants, batch))
    assert (default.name, default.layout, default.channels, default.grid) == ("stream", "NHWC", C, (H, W))
    assert known["last"].layout == known["restored"].layout == "NHWC"
    assert known["patches"].layout == "NCHW"
    assert not {"inside", "mixed", "mixed_scores"} & set(known)


def test_rolled_values_are_no_layers() -> None:
    nodes = [
        node("Transpose", "patches", "last", perm=[0, 2, 3, 1]),
        node("Slice", "last one end row", "tail"),
        node("Slice", "last zero one row", "head"),
        node("Concat", "tail head", "rolled", axis=1),
        node("MatMul", "rolled wl", "worked"),
        node("Slice", "worked minus end row", "tail2"),
        node("Slice", "worked zero minus row", "head2"),
        node("Concat", "tail2 head2", "unrolled", axis=1),
        node("Add", "last unrolled", "stream"),
        node("ReduceMean", "stream middle", "pooled", keepdims=0),
    ]
    constants = {"zero": sizes(0), "one": sizes(1), "minus": sizes(-1), "end": sizes(2**31), "row": sizes(1)}
    known, default = layers(model(nodes, {**constants, "middle": sizes(1, 2)}))
    assert default.name == "stream"
    assert not {"rolled", "worked"} & set(known)


def test_sizes_that_the_graph_computes_are_known() -> None:
    """Reshapes to (batch of the input, ...) as older exporters write them."""
    nodes = [
        node("Shape", "patches", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Unsqueeze", "batch first", "one"),
        node("Concat", "one rest", "target", axis=0),
        node("Reshape", "patches target", "rows"),
        node("Transpose", "rows", "grid", perm=[0, 2, 1]),
        *attention("grid", "stream"),
        node("ReduceMean", "stream along", "pooled", keepdims=0),
    ]
    constants = {"zero": np.array(0, np.int64), "first": sizes(0), "rest": sizes(C, H * W), "along": sizes(1)}
    _, default = layers(model(nodes, constants))
    assert (default.name, default.layout, default.grid) == ("stream", "NTC", (H, W))


# What may stand between "patches" (N, C, H, W) and "x", and leaves the axes in the order that is given.
KEEPING = {
    "quantised": ([node("QuantizeLinear", "patches s z", "q"), node("DequantizeLinear", "q s z", "x")], "NCHW"),
    "turned as int8": (
        [
            node("QuantizeLinear", "patches s z", "q"),
            node("Transpose", "q", "t", perm=[0, 2, 3, 1]),
            node("DequantizeLinear", "t s z", "x"),
        ],
        "NHWC",
    ),
    "tokens as int8": (
        [
            node("QuantizeLinear", "patches s z", "q"),
            node("Reshape", "q tokens", "r"),
            node("Transpose", "r", "t", perm=[0, 2, 1]),
            node("Clip", "t", "c"),
            node("DequantizeLinear", "c s z", "x"),
        ],
        "NTC",
    ),
    "cast": (
        [
            node("Transpose", "patches", "t", perm=[0, 2, 3, 1]),
            node("Cast", "t", "i", to=TensorProto.INT32),
            node("Max", "i zero", "m"),
            node("Identity", "m", "k"),
            node("Cast", "k", "x", to=TensorProto.FLOAT),
        ],
        "NHWC",
    ),
    "looked up": (  # the nearest of eight entries of a table
        [
            node("ArgMax", "patches", "a", axis=1, keepdims=0),
            node("Gather", "table a", "x"),
        ],
        "NHWC",
    ),
    "multiplied as uint8": (
        [
            node("Transpose", "patches", "t", perm=[0, 2, 3, 1]),
            node("QuantizeLinear", "t s z", "q"),
            node("QLinearMatMul", "q s z wq s z s z", "p"),
            node("DequantizeLinear", "p s z", "x"),
        ],
        "NHWC",
    ),
}


@pytest.mark.parametrize("way", KEEPING)
def test_axes_are_followed_through_values_of_any_type(way: str) -> None:
    nodes, layout = KEEPING[way]
    pooled = {"NCHW": [2, 3], "NHWC": [1, 2], "NTC": [1]}[layout]
    made = model(
        [*nodes, node("ReduceMean", "x axes", "pooled", keepdims=0)],
        {
            "axes": sizes(*pooled), "tokens": sizes(0, C, -1), "s": np.float32(0.1), "z": np.int8(0),
            "zero": np.int32(0), "table": RNG.standard_normal((9, C)), "wq": np.ones((C, C), np.int8),
        },
    )  # fmt: skip
    graph, _ = open_model(made)
    found = Values(graph, find_score(graph)).candidate("x")
    assert found is not None
    assert (found.layout, found.channels, found.grid, found.assumed) == (layout, C, (H, W), False)
