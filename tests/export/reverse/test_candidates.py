"""Values that can be explained: which are listed, which one a name means, and what is said of a wrong name."""

from __future__ import annotations

import pytest
from cfcam.export import layers
from cfcam.export.axes.layout import Layout
from cfcam.export.errors import LayerError
from cfcam.export.graph import Graph
from cfcam.export.reverse import differentiate, list_layers
from cfcam.export.reverse.candidates import candidates, choose_layer, describe, explain_blocker, usable_behind
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import Score, find_score
from layered_nets import chain
from onnx import ModelProto, helper
from onnx_nets import body, classifier, gated_head, linear_head, model


def test_candidates_and_default() -> None:
    found = {c.name: c for c in list_layers(classifier(gated_head))}
    assert list(found) == ["a1", "features", "gated"]
    assert [c.name for c in found.values() if c.default] == ["gated"]
    assert "global pooling" in found["gated"].why
    assert (found["a1"].operator, found["a1"].node, found["a1"].shape) == ("Relu", "act1", ("N", 8, 6, 6))
    assert found["a1"].depth < found["features"].depth


def test_wrong_layer_name_is_answered_with_candidates() -> None:
    with pytest.raises(LayerError, match=r"no value or node 'feature'; nearest: features.*features \(N, 6, 6, 6\)"):
        differentiate(classifier(), "feature")


def test_layer_that_does_not_reach_the_score() -> None:
    nodes, constants = body()
    more, extra = linear_head()
    side = helper.make_node("Relu", ["c1"], ["side"])
    source = model([*nodes, *more, side], {**constants, **extra}, outputs=("logits", "side"))
    with pytest.raises(LayerError, match="'side' does not reach the score 'logits'"):
        differentiate(source, "side")


def test_layer_without_a_grid() -> None:
    with pytest.raises(LayerError, match=r"layer 'flat' has shape .* expected a grid"):
        differentiate(classifier(), "flat")


def test_no_default_is_no_error():
    """Two branches that meet as scores only: no value with a grid is passed by both."""
    made = chain(
        "Conv image w1 -> a; GlobalAveragePool a -> ap; Flatten ap -> af; MatMul af m -> as;"
        "Conv image w2 -> b; GlobalAveragePool b -> bp; Flatten bp -> bf; MatMul bf m -> bs; Add as bs -> scores"
    )
    found = layers.list_layers(made)
    assert [layer.name for layer in found.layers] == ["a", "b"]
    assert found.default is None
    assert found.to_dict()["default"] is None
    with pytest.raises(LayerError, match=r"no value with a grid is passed .* name a layer; candidates: a \(N, 4, "):
        differentiate(made)
    for name in ("a", "b"):
        assert differentiate(made, name).layer.name == name


@pytest.mark.parametrize("start", ["", "Sub image mean -> image2; Relu image2 -> image3; "])
def test_a_network_without_a_grid_says_so(start):
    """A perceptron on the flattened image: the image itself, normalised or not, is no layer."""
    source = "image3" if start else "image"
    made = chain(f"{start}Flatten {source} -> f; MatMul f flat -> h; Relu h -> r; MatMul r m -> scores")
    assert layers.list_layers(made).layers == ()
    with pytest.raises(LayerError, match="the model has no layer with a grid: behind the image no value keeps rows"):
        differentiate(made)


def test_a_default_without_a_gradient_sends_the_search_on():
    """What enters the last pooling (of a gate) reaches the score by an operator without a rule only."""
    made = chain(
        "Conv image w1 -> a; Relu a -> e; GlobalAveragePool e -> g; Mul e g -> y; Inverse y -> odd;"
        "Slice odd zeros ones grid -> p; Flatten p -> f; MatMul f m -> scores",
        {"odd": ["N", 4, 6, 8]},
    )
    found = layers.list_layers(made)
    assert {layer.name: bool(layer.refused) for layer in found.layers} == {"e": True, "y": True, "odd": False}
    assert found.default is not None
    assert found.default.name == differentiate(made).layer.name == "odd"


BLOCKED = (
    "Conv image w1 -> a; Relu a -> e; Inverse e -> odd; Relu odd -> o; GlobalAveragePool o -> p; Flatten p -> f;"
    "MatMul f m -> scores"
)


def test_a_layer_is_chosen_by_value_or_node_and_its_axes_may_be_given() -> None:
    graph, _ = open_model(classifier())
    score = find_score(graph)
    assert choose_layer(graph, score, None).name == "features"
    assert choose_layer(graph, score, "act1") == choose_layer(graph, score, "a1")
    # A value that the list leaves out, since it only feeds an activation.
    assert (choose_layer(graph, score, "c2").operator, choose_layer(graph, score, "c2").grid) == ("Conv", (6, 6))
    turned = choose_layer(graph, score, "a1", axes=Layout("NHWC"))
    assert (turned.channels, turned.grid) == (6, (8, 6)), "(N, 8, 6, 6), read as told"


def test_candidates_are_described_in_one_line_the_last_ones_only() -> None:
    known = candidates(*_opened(classifier(gated_head)))
    assert describe(known[:1]) == "candidates: a1 (N, 8, 6, 6)"
    assert describe(known, most=2) == "last candidates: features (N, 6, 6, 6), gated (N, 6, 6, 6)"
    assert describe([]) == "no value of this graph has a grid of features"


def test_the_nearest_layer_behind_a_blocker_is_advised() -> None:
    graph, score = _opened(chain(BLOCKED, {"odd": ["N", 4, 6, 8]}))
    node, layer = graph.producers["odd"], choose_layer(graph, score, "e")
    better = usable_behind(graph, score, node)
    assert better is not None
    assert better.name == "o"
    sentence = explain_blocker(graph, score, layer, node)
    assert (
        "has no derivative rule; layer 'e' reaches it by 'e'; the nearest layer behind it that works is 'o'" in sentence
    )
    assert usable_behind(graph, score, graph.producers["p"]) is None
    assert "no layer behind it has a grid" in explain_blocker(graph, score, layer, graph.producers["p"], "stopped")


def _opened(made: ModelProto) -> tuple[Graph, Score]:
    graph, _ = open_model(made)
    return graph, find_score(graph)
