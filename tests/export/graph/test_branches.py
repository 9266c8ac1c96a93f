"""An If whose condition is known is its branch; another stays, and is refused on the way to the score."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import Graph, take_known_branches
from cfcam.export.reverse import differentiate
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_gradcheck import run_ort
from onnx_nets import body, images, linear_head, model, restart
from small_graphs import make, normal

FEEDS = {"image": images(2), "cam_target": np.array([3, -1])}


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    restart()


def branching(condition: list, extra: dict | None = None) -> ModelProto:
    """An If between ``a1`` and the second convolution: Relu of a1 + 1, or tanh of a1."""
    nodes, constants = body()
    more, head = linear_head()
    value = helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)
    one = numpy_helper.from_array(np.array(1, np.float32), "one")
    plus = [helper.make_node("Add", ["a1", "one"], ["sum"]), helper.make_node("Relu", ["sum"], ["inside"])]
    branches = [
        helper.make_graph(plus, "yes", [], [value], [one]),
        helper.make_graph([helper.make_node("Tanh", ["a1"], ["inside"])], "no", [], [value]),
    ]
    fork = helper.make_node("If", ["flag"], ["odd"], name="fork", then_branch=branches[0], else_branch=branches[1])
    nodes[3].input[0] = "odd"
    return model([*nodes[:3], *condition, fork, *nodes[3:], *more], {**constants, **head, **(extra or {})})


def plainly(op: str) -> ModelProto:
    nodes, constants = body()
    more, head = linear_head()
    nodes[3].input[0] = "odd"
    inner = [helper.make_node("Tanh", ["a1"], ["odd"])]
    if op == "Relu":
        inner = [helper.make_node("Add", ["a1", "one"], ["sum"]), helper.make_node("Relu", ["sum"], ["odd"])]
    return model([*nodes[:3], *inner, *nodes[3:], *more], {**constants, **head, "one": np.array(1, np.float32)})


@pytest.mark.parametrize("taken", [True, False])
def test_known_branch_is_taken(taken: bool) -> None:
    source = branching([], {"flag": np.array(taken)})
    restart()
    plain = plainly("Relu" if taken else "Tanh")
    made, same = differentiate(source, "a1"), differentiate(plain, "a1")
    assert "If" not in {n.op_type for n in made.model.graph.node}
    for ours, theirs in zip(run_ort(made.model, FEEDS), run_ort(same.model, FEEDS), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_branch_that_depends_on_a_known_shape_is_taken() -> None:
    """As PyTorch's older exporter writes a squeeze."""
    condition = [
        helper.make_node("Shape", ["a1"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["size"]),
        helper.make_node("Equal", ["size", "eight"], ["flag"]),
    ]
    made = differentiate(branching(condition, {"axis": np.array(1), "eight": np.array(8)}), "a1")
    assert "If" not in {n.op_type for n in made.model.graph.node}
    assert "Tanh" not in {n.op_type for n in made.model.graph.node}


def test_unknown_branch_is_refused_with_the_way_round() -> None:
    condition = [
        helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "limit"], ["flag"]),
    ]
    source = branching(condition, {"limit": np.array(0.5, np.float32)})
    with pytest.raises(UnsupportedOperatorError, match=r"If node 'fork': control flow .* a constant condition folds"):
        differentiate(source, "a1")
    assert differentiate(source, "features").layer.name == "features"


def test_branches_that_give_out_what_they_did_not_make() -> None:
    """A value from outside, a weight of the branch's own, and one value under two names; inner names that are taken."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "w", "a", "a")]
    w = normal(4)
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["a"])], "yes", [], info, [numpy_helper.from_array(w, "w")]
    )
    unused = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["b"])], "no", [], [helper.make_tensor_value_info("b", 1, None)] * 4
    )
    outputs = ("outer", "weight", "first", "second")
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("If", ["flag"], list(outputs), name="fork", then_branch=branch, else_branch=unused),
    ]
    graph = Graph(make(nodes, {"flag": np.array([True])}, outputs=("a", *outputs)))
    assert take_known_branches(graph) == 1
    assert take_known_branches(graph) == 0
    x = normal(2, 4)
    for found, want in zip(run_ort(graph.to_model(), {"x": x}), (np.abs(x), x, w, -x, -x), strict=True):
        np.testing.assert_array_equal(found, want)
