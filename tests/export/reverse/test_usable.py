"""From which values the score has a gradient, told by writing it, and the model left as it is."""

from __future__ import annotations

from cfcam.export.graph import Graph
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import Score, find_score
from cfcam.export.reverse.usable import blocker, refusals
from layered_nets import chain


def opened(text: str, stated: dict[str, list] | None = None) -> tuple[Graph, Score]:
    graph, _ = open_model(chain(text, stated))
    return graph, find_score(graph)


END = "GlobalAveragePool e -> p; Flatten p -> f; MatMul f m -> scores"


def test_the_last_node_without_a_rule_blocks() -> None:
    stated = {"odd": ["N", 4, 6, 8], "more": ["N", 4, 6, 8]}
    graph, score = opened(f"Conv image w1 -> a; Inverse a -> odd; Inverse odd -> more; Relu more -> e; {END}", stated)
    for layer in ("a", "odd"):
        node = blocker(graph, layer, score.value)
        assert node is not None
        assert list(node.output) == ["more"]
    assert blocker(graph, "more", score.value) is None


def test_each_layer_has_its_own_reason_and_those_behind_all_obstacles_none() -> None:
    """Two obstacles: an operator without a rule, and before it a form that a rule refuses."""
    graph, score = opened(
        "Conv image w1 -> a; Softplus a -> d; Mod a d -> b fmod=1; Inverse b -> odd; Relu odd -> e; " + END,
        {"odd": ["N", 4, 6, 8]},
    )
    before = graph.to_model().SerializeToString(deterministic=True)
    found = refusals(graph, score, ["a", "b", "odd", "e"])
    assert set(found) == {"a", "b"}
    assert all("com.microsoft::Inverse node" in reason and "no derivative rule" in reason for reason in found.values())
    assert graph.to_model().SerializeToString(deterministic=True) == before


def test_a_form_that_a_rule_refuses_is_a_reason() -> None:
    graph, score = opened(f"Conv image w1 -> a; Softplus a -> d; Mod a d -> b fmod=1; Relu b -> e; {END}")
    found = refusals(graph, score, ["a", "b", "e"])
    assert set(found) == {"a"}
    assert "its divisor depends on the layer" in found["a"]
    assert blocker(graph, "a", score.value) is None, "the operator itself has a rule"


def test_a_gradient_that_is_zero_everywhere_is_a_reason() -> None:
    graph, score = opened(f"Conv image w1 -> a; Relu a -> b; Round b -> e; {END}")
    found = refusals(graph, score, ["b", "e"])
    assert found == {"b": "the gradient of score 'scores' is zero"}
