"""The table of rules, and what a rule is told of its node."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import Graph
from cfcam.export.reverse import registry, supported_operators
from cfcam.export.reverse.core import expose
from cfcam.export.reverse.emitter import Emitter
from cfcam.export.reverse.registry import Context, find_rule, node_name, register_fused, rule
from onnx import NodeProto, TensorProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies, so that what a test registers is gone behind it."""
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(registry, "_FUSED", set(registry._FUSED))


def test_a_rule_is_found_by_domain_and_operator() -> None:
    @rule("Mine", "Ours", domain="vendor")
    def derive(c: Context) -> registry.Gradients:
        return {}

    register_fused("vendor", "Whole")
    for name in ("Mine", "Ours"):
        found = find_rule(helper.make_node(name, ["x"], ["y"], domain="vendor"))
        assert found is not None
        assert (found.derive, found.broadcasting) == (derive, False)
    assert find_rule(helper.make_node("Mine", ["x"], ["y"])) is None
    assert {"vendor::Mine", "vendor::Ours", "vendor::Whole", "Relu"} <= set(supported_operators())
    assert supported_operators() == sorted(supported_operators())


def test_both_names_of_onnxs_own_domain_are_one() -> None:
    assert find_rule(helper.make_node("Relu", ["x"], ["y"])) is find_rule(
        helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")
    )
    assert node_name(helper.make_node("Relu", ["x"], ["y"], name="n", domain="ai.onnx")) == "Relu node 'n'"
    assert node_name(helper.make_node("Relu", ["x"], ["y"], name="n", domain="vendor")) == "vendor::Relu node 'n'"


def test_two_rules_for_one_operator_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two rules for Relu"):
        rule("Relu")(lambda c: {})


def context(
    node: NodeProto, *, dims: tuple = ("N", 4), gradient: np.ndarray | None = None, **constants: np.ndarray
) -> Context:
    graph = Graph(make([node], constants, inputs={"x": list(dims), "other": [3]}))
    emitter = Emitter(graph)
    return Context(emitter, node, [None if gradient is None else emitter.constant(gradient)], frozenset({0}))


def test_inputs_and_attributes() -> None:
    node = helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"], mode="edge", name="pad")
    c = context(node, pads=np.array([1, 2]), axes=np.array([-1]))
    assert (c.has(1), c.has(2), c.has(3), c.has(4)) == (True, False, True, False)
    assert (c.ints(1), c.ints(2), c.ints(3)) == ([1, 2], None, [-1])
    assert (c.attr("mode"), c.attr("nothing", 7)) == ("edge", 7)
    assert (c.axis(-1, 2), c.axes([-1, 0], 3), c.axes(None, 3)) == (1, [0, 2], [0, 1, 2])
    older = context(helper.make_node("ReduceMax", ["x"], ["y"], axes=[1, 0]))
    assert older.ints(1, "axes") == [1, 0]


def test_what_is_computed_at_run_time_is_refused_with_the_node() -> None:
    c = context(helper.make_node("Expand", ["x", "other"], ["y"], name="grow"))
    assert c.constant(1) is None
    with pytest.raises(
        UnsupportedOperatorError, match=r"Expand node 'grow': its input 1 \('other'\) is computed at run time"
    ) as caught:
        c.ints(1)
    assert caught.value.value == "y"
    assert c.static(c.x(), [1], "the width") == [4]
    with pytest.raises(
        UnsupportedOperatorError, match=r"the batch must be static, found shape \('N', 4\); fix the input"
    ):
        c.static(c.x(), [0], "the batch")
    with pytest.raises(UnsupportedOperatorError, match="only its first output can be differentiated"):
        _ = c.g


@pytest.mark.parametrize("dims", [(2, 3, 4), ("N", 3, "W")], ids=["static", "open"])
@pytest.mark.parametrize("target", [(4,), (3, 1), (1, 3, 4), (1,)])
@pytest.mark.parametrize("constant", [False, True])
def test_broadcasting_is_undone(dims: tuple, target: tuple[int, ...], constant: bool) -> None:
    """Sums over what numpy had repeated, also of a gradient that is the same along an axis and not written out."""
    if not isinstance(dims[2], int) and target[-1] == 4:
        dims = (*dims[:2], 4)
    gradient = normal(1, 3, 1) if constant else normal(2, 3, 4)
    c = context(helper.make_node("Add", ["x", "b"], ["y"]), dims=dims, gradient=gradient, b=normal(*target))
    back = c.sum_to(c.g, c.y(), c.x(1))
    expose(c.graph, back, "back")
    c.graph.outputs = [helper.make_tensor_value_info("back", TensorProto.FLOAT, None)]
    (found,) = run_ort(c.graph.to_model(), {"x": normal(2, 3, 4), "other": normal(3)})
    whole = np.broadcast_to(gradient, (2, 3, 4)).astype(np.float64)
    kept = (1,) * (3 - len(target)) + target
    want = whole.sum(tuple(i for i, size in enumerate(kept) if size == 1), keepdims=True).reshape(target)
    np.testing.assert_allclose(np.broadcast_to(found, target), want, rtol=1e-5)


def test_a_constant_gradient_is_filled_when_it_is_asked_for() -> None:
    c = context(helper.make_node("Relu", ["x"], ["y"]), dims=(2, 4), gradient=np.array([[3.0]], np.float32))
    assert c.g.shape == (1, 1)
    assert c.full.shape == (2, 4)
    assert c.seed is None
