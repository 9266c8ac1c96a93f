"""What one value of a graph is as a candidate: its grid, followed from the image or assumed by its shape."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.axes.layout import NCHW, Digit, Layout
from cfcam.export.graph import Graph
from cfcam.export.reverse.candidate import Candidate, Values, reduced_axes
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import find_score
from layered_nets import chain
from onnx import helper
from onnx_nets import classifier
from small_graphs import make


def values(text: str, stated: dict[str, list] | None = None) -> Values:
    graph, _ = open_model(chain(text, stated))
    return Values(graph, find_score(graph))


@pytest.mark.parametrize(
    ("shape", "axes", "channels", "grid"),
    [
        (("N", 5, 4, 6), NCHW, 5, (4, 6)),
        (("N", 4, 6, 5), Layout("NHWC"), 5, (4, 6)),
        (("N", 26, 5), Layout("NTC", 2, (Digit("H", 1, 4), Digit("W", 1, 6))), 5, (4, 6)),
        (("N", 5, "H", "W"), NCHW, 5, (None, None)),
    ],
)
def test_channels_and_grid_by_the_layout(shape, axes: Layout, channels: int, grid) -> None:
    layer = Candidate("v", "n", "Relu", shape, axes, 3)
    assert (layer.layout, layer.channels, layer.grid, layer.prefix_tokens) == (axes.kind, channels, grid, axes.prefix)


def test_a_value_says_what_makes_it_and_where() -> None:
    graph, _ = open_model(classifier())
    layer = Values(graph, find_score(graph)).candidate("a1")
    assert layer is not None
    assert (layer.node, layer.operator, layer.shape, layer.depth, layer.assumed) == (
        "act1",
        "Relu",
        ("N", 8, 6, 6),
        2,
        False,
    )


def test_values_without_a_grid_are_no_candidates() -> None:
    known = values("Conv image w1 -> c; Shape c -> s; GlobalAveragePool c -> p; Flatten p -> f; MatMul f m -> scores")
    assert known.candidate("c") is not None
    for name in ("p", "f", "s", "scores", "image", "nowhere"):
        assert known.candidate(name) is None


def test_features_are_more_than_the_image_in_other_numbers() -> None:
    known = values(
        "Sub image mean -> less; Conv less w1 -> c; Relu c -> r; GlobalAveragePool r -> p; Flatten p -> f;"
        "MatMul f m -> scores"
    )
    assert known.candidate("less") is not None
    assert {"c", "r", "p", "f", "scores"} == known.features & {"less", "c", "r", "p", "f", "scores"}


BEHIND_INVERSE = "Conv image w1 -> c; Inverse c -> v; {}; MatMul f m -> scores"


@pytest.mark.parametrize(
    ("shape", "rest", "layout", "grid"),
    [
        (["N", 4, 5, 7], "ReduceMean v grid -> f keepdims=0", "NCHW", (5, 7)),
        (["N", 6, 8, 4], "ReduceMean v inner -> f keepdims=0", "NHWC", (6, 8)),
        (["N", 10, 4], "ReduceMean v middle -> f keepdims=0", "NTC", (3, 3)),
        (["N", 48, 4], "ReduceMean v middle -> f keepdims=0", None, None),
        (["N", 4, 1, 1], "Flatten v -> f", None, None),
    ],
)
def test_behind_an_unknown_operator_the_shape_and_the_readers_decide(shape, rest: str, layout, grid) -> None:
    """Ten tokens: a class token and a square. 48 are no square behind eight or fewer."""
    layer = values(BEHIND_INVERSE.format(rest), {"v": shape}).candidate("v")
    if layout is None:
        assert layer is None
    else:
        assert layer is not None
        assert (layer.layout, layer.grid, layer.channels, layer.assumed) == (layout, grid, 4, True)


def test_reduced_axes() -> None:
    """From the attribute or the input, counted from the end too; None where nobody knows them yet."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["a"]),
        helper.make_node("ReduceMean", ["x", "computed"], ["b"]),
        helper.make_node("ReduceSum", ["x"], ["c"]),
    ]
    inputs = {"x": ["N", 4, 6, 8], "computed": [1]}
    graph = Graph(make(nodes, {"axes": np.array([-1, 2])}, inputs=inputs, outputs=("a", "b", "c")))
    assert [reduced_axes(graph, node, 4) for node in graph.nodes] == [[2, 3], None, None]
    older = helper.make_node("ReduceMax", ["x"], ["y"], axes=[3, -2])
    assert reduced_axes(graph, older, 4) == [2, 3]
