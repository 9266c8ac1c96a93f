"""Which layer is the default: what enters the end of the grid, or the last value that every way passes."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.layers import list_layers
from cfcam.export.reverse import differentiate
from cfcam.export.reverse.candidate import Values
from cfcam.export.reverse.default_layer import proposals
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import find_score
from layered_nets import chain, conv_net
from onnx import ModelProto, helper, numpy_helper
from onnx_nets import token_classifier


def test_flatten_is_an_end_too():
    default = list_layers(conv_net(tail="Flatten")).default
    assert default is not None
    assert default.name == "r2"
    assert "flatten" in default.why


def test_where_no_pooling_ends_the_grid_its_last_value_is_the_default():
    """Scores that are read off one cell: no pooling and no flatten of a grid."""
    model = conv_net()
    pool = next(node for node in model.graph.node if node.name == "pool")
    pool.CopyFrom(helper.make_node("Slice", ["r2", "begin", "end", "axes"], ["p"]))
    for name, values in {"begin": [0, 0], "end": [1, 1], "axes": [2, 3]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    found = list_layers(model)
    assert [layer.name for layer in found.layers] == ["r1", "r2"]
    assert found.default is not None
    assert (found.default.name, found.default.why) == ("r2", "the last value with a grid; enters Slice 'Slice_p'")


# What a pooling may look like in an ONNX file; `a` (N, 4, 6, 8) is what it pools, or its NHWC form `t`.
POOLINGS = {
    "global": ("GlobalAveragePool a -> p; Flatten p -> f", "a"),
    "as (N, 1, 1, C)": ("GlobalAveragePool a -> p; Transpose p -> q perm=0,2,3,1; Reshape q two -> f", "a"),
    "flatten(2).mean(-1)": ("Reshape a three -> q; ReduceMean q last -> f keepdims=0", "a"),
    "flatten(2).mean(-1), twice": (
        "Reshape a three -> q; ReduceMean q last -> f1 keepdims=0; Reshape a three -> o; ReduceMean o last -> f2 "
        "keepdims=0; Add f1 f2 -> f",
        "a",
    ),
    "tokens": (
        "Reshape a three -> q; Transpose q -> t perm=0,2,1; ReduceMean t middle -> f keepdims=0",
        "t",
    ),
    "one side after the other": ("ReduceMean a last -> q keepdims=0; ReduceMean q last -> f keepdims=0", "a"),
    "NHWC": ("Transpose a -> t perm=0,2,3,1; ReduceMean t inner -> f keepdims=0", "t"),
    "window": ("AveragePool a -> p kernel_shape=6,8; Flatten p -> f", "a"),
    "large window": ("AveragePool a -> p kernel_shape=5,8; GlobalAveragePool p -> q; Flatten q -> f", "a"),
    "convolution": ("Conv a whole -> p; Flatten p -> f", "a"),
    "quantised": (
        "QuantizeLinear a s z -> q; DequantizeLinear q s z -> d; GlobalAveragePool d -> p; Flatten p -> f",
        "d",
    ),
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_default_enters_a_pooling_in_any_form(pooling):
    nodes, layer = POOLINGS[pooling]
    made = chain(f"Conv image w1 -> c; Relu c -> a; {nodes}; MatMul f m -> scores")
    default = list_layers(made).default
    assert default is not None
    assert (default.name, default.channels, default.grid) == (layer, 4, (6, 8))
    assert differentiate(made).layer.name == layer, "the list and the export agree"


def proposed(made: ModelProto, *, anywhere: bool = False) -> list[tuple[str, str]]:
    graph, _ = open_model(made)
    values = Values(graph, find_score(graph))
    return [(layer.name, why) for layer, why in proposals(values, anywhere=anywhere)]


def test_proposals_come_from_the_end_of_the_network() -> None:
    found = proposed(
        chain("Conv image w1 -> c; Relu c -> a; GlobalAveragePool a -> p; Flatten p -> f; MatMul f m -> scores")
    )
    assert [name for name, _ in found] == ["a", "c"]
    assert found[0][1].startswith("enters the last global pooling (GlobalAveragePool ")
    assert found[1][1].startswith("the last value with a grid; enters Relu ")


def test_a_value_that_a_shortcut_passes_by_is_not_proposed() -> None:
    made = chain(
        "Conv image w1 -> c; Relu c -> a; Sigmoid a -> b; Mul a b -> d; GlobalAveragePool d -> p; Flatten p -> f;"
        "MatMul f m -> scores"
    )
    assert [name for name, _ in proposed(made)] == ["d", "a", "c"], "b is on one of two ways only"


def test_of_a_class_token_network_the_stream_before_the_last_mixing() -> None:
    name, why = proposed(token_classifier())[0]
    assert (name, why) == ("stream", "the token stream that enters the last attention block")


def test_anywhere_names_the_value_that_still_has_the_tokens_in_front_of_the_grid() -> None:
    made = token_classifier()
    last = list(made.graph.node)[-2:]
    assert [node.op_type for node in last] == ["Gather", "Gemm"]
    cut = helper.make_node("Slice", ["out", "begin", "end", "along"], ["cells"])
    pool = helper.make_node("ReduceMean", ["cells", "along"], ["first"], keepdims=0)
    del made.graph.node[-2:]
    made.graph.node.extend([cut, pool, last[1]])
    for name, value in {"begin": 1, "end": 17, "along": 1}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    assert proposed(made)[0][0] == "cells"
    assert proposed(made, anywhere=True)[0][0] == "out"
