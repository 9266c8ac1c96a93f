"""Fused operators on a path are written out, off it they stay; both compute what they computed."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import ExportError, UnsupportedOperatorError
from cfcam.export.graph import Graph
from cfcam.export.reverse import registry, rewriting
from cfcam.export.reverse.emitter import Value
from cfcam.export.reverse.registry import Context
from cfcam.export.reverse.rewriting import find_rewrite, is_fused, rewrite, rewrite_path, settle_fused
from onnx import NodeProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators of a vendor, which are gone again behind the test."""
    monkeypatch.setattr(rewriting, "_REWRITES", dict(rewriting._REWRITES))
    monkeypatch.setattr(registry, "_FUSED", set(registry._FUSED))

    @rewrite("Both", domain="vendor")
    def both(c: Context) -> list[Value | None]:
        """The sum and the product; a third output, of which nobody knows what it is."""
        return [c.x() + c.x(1), c.x() * c.x(1)]

    @rewrite("Twice", domain="vendor")
    def twice(c: Context) -> list[Value | None]:
        """By ONNX's Sum, which is written out too here."""
        return [c.e("Sum", c.x(), c.x())]

    @rewrite("Sum")
    def total(c: Context) -> list[Value | None]:
        return [c.x() + c.x(1)]

    @rewrite("Same", domain="vendor")
    def same(c: Context) -> list[Value | None]:
        return [c.x(), c.x()]

    @rewrite("Twins", domain="vendor")
    def twins(c: Context) -> list[Value | None]:
        return [c.x() * 2, c.x() * 2]

    @rewrite("Broken", domain="vendor")
    def broken(c: Context) -> list[Value | None]:
        return [c.e.constant(np.zeros(c.attr("missing")))]

    @rewrite("Refused", domain="vendor")
    def refused(c: Context) -> list[Value | None]:
        c.fail("it is of no known form")


def vendor(op: str, inputs: list[str], outputs: list[str]) -> NodeProto:
    return helper.make_node(op, inputs, outputs, name=op.lower(), domain="vendor")


def graph_of(*nodes: NodeProto, outputs: tuple[str, ...] = ("y",)) -> Graph:
    model = make(list(nodes), {"b": np.array([1, 2, 3, 4], np.float32)}, outputs=outputs)
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    return Graph(model)


def run(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    assert not any(node.domain == "vendor" for node in graph.nodes)
    return run_ort(graph.to_model(), {"x": x})


def test_which_operators_are_fused() -> None:
    """ONNX's own Attention is written out too, but its shapes are known without that."""
    assert is_fused(vendor("Both", ["x", "b"], ["y"]))
    assert not is_fused(vendor("Unheard", ["x"], ["y"]))
    attention = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    assert find_rewrite(attention) is not None
    assert not is_fused(attention)
    assert find_rewrite(helper.make_node("Relu", ["x"], ["y"])) is None


def test_only_the_path_is_written_out() -> None:
    graph = graph_of(
        vendor("Both", ["x", "b"], ["before"]),
        helper.make_node("Relu", ["before"], ["layer"]),
        vendor("Both", ["layer", "b"], ["y"]),
    )
    assert rewrite_path(graph, ["layer"], ["y"]) == 1
    assert [node.op_type for node in graph.nodes] == ["Both", "Relu", "Add", "Mul"]
    assert rewrite_path(graph, ["layer"], ["y"]) == 0
    assert rewrite_path(graph, ["x"], ["y"]) == 1
    x = normal(2, 4)
    b = np.arange(1, 5)
    np.testing.assert_allclose(run(graph, x)[0], np.maximum(x + b, 0) + b, rtol=1e-6)


def test_what_is_written_out_may_be_fused_in_turn() -> None:
    graph = graph_of(vendor("Twice", ["x"], ["y"]))
    assert rewrite_path(graph, ["x"], ["y"]) == 2
    assert [node.op_type for node in graph.nodes] == ["Add"]
    x = normal(2, 4)
    np.testing.assert_allclose(run(graph, x)[0], 2 * x, rtol=1e-6)


def test_several_outputs_keep_their_names_also_where_they_are_one_value() -> None:
    graph = graph_of(
        vendor("Both", ["x", "b"], ["s", "p"]),
        vendor("Same", ["s"], ["first", "second"]),
        outputs=("p", "first", "second"),
    )
    assert rewrite_path(graph, ["x"], ["p", "first", "second"]) == 2
    x, b = normal(2, 4), np.arange(1, 5)
    for found, want in zip(run(graph, x), (x * b, x + b, x + b), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-6)


def test_one_value_that_was_made_for_two_outputs() -> None:
    graph = graph_of(vendor("Twins", ["x"], ["first", "second"]), outputs=("first", "second"))
    assert rewrite_path(graph, ["x"], ["first", "second"]) == 1
    x = normal(2, 4)
    for found in run(graph, x):
        np.testing.assert_array_equal(found, 2 * x)


def test_an_output_that_cannot_be_written_is_refused_where_it_is_read() -> None:
    unread = graph_of(vendor("Both", ["x", "b"], ["y", "p", "more"]))
    assert rewrite_path(unread, ["x"], ["y"]) == 1
    read = graph_of(vendor("Both", ["x", "b"], ["y", "p", "more"]), outputs=("y", "more"))
    with pytest.raises(
        UnsupportedOperatorError, match="Both node 'both': its output 2 is used, which cannot be written"
    ):
        rewrite_path(read, ["x"], ["y"])


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        ("Broken", "vendor::Broken node 'broken' cannot be written out: its inputs or attributes do not fit"),
        ("Refused", "vendor::Refused node 'refused': it is of no known form"),
    ],
)
def test_forms_that_cannot_be_written_out(op: str, sentence: str) -> None:
    graph = graph_of(vendor(op, ["x"], ["y"]))
    with pytest.raises(ExportError, match=sentence):
        rewrite_path(graph, ["x"], ["y"])
    settle_fused(graph)
    assert [node.op_type for node in graph.nodes] == [op], "where nobody asks for its gradient it stays"


def test_settling_tells_the_shapes_and_writes_out_what_gives_out_several_values() -> None:
    graph = graph_of(
        vendor("Both", ["x", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
        vendor("Both", ["r", "b"], ["t", "p"]),
        helper.make_node("Sub", ["t", "p"], ["y"]),
    )
    assert graph.shape("s") is None
    settle_fused(graph)
    assert [graph.shape(name) for name in ("s", "r", "t", "p", "y")] == [("N", 4)] * 5
    assert [node.op_type for node in graph.nodes] == ["Both", "Relu", "Add", "Mul", "Sub"]
