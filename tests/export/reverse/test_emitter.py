"""Nodes that are written like formulas: what they compute, and that nothing is written twice or in vain."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.graph import Graph
from cfcam.export.reverse.core import expose
from cfcam.export.reverse.emitter import Emitter, OneHot, Value, infer_node
from onnx import TensorProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def emitter(*dims: int | str, opset: int = 18, share: bool = True) -> tuple[Emitter, Value]:
    """Over a graph with the input `x` of these dims, its sigmoid, and `classes` int64 (N,)."""
    source = make(
        [helper.make_node("Sigmoid", ["x"], ["gate"])], inputs={"x": list(dims)}, outputs=("gate",), opset=opset
    )
    source.graph.input.append(helper.make_tensor_value_info("classes", TensorProto.INT64, [dims[0]]))
    made = Emitter(Graph(source), share=share)
    return made, made.value("x")


def run(value: Value, x: np.ndarray, classes: tuple[int, ...] = (0, 0)) -> np.ndarray:
    """The value, with what the emitter says of its shape held against what comes out."""
    graph = value.emitter.graph
    name = graph.fresh("result")
    expose(graph, value, name)
    graph.outputs = [helper.make_value_info(name, helper.make_tensor_type_proto(value.kind, None))]
    feeds = {"x": x, "classes": np.array(classes)}
    (found,) = run_ort(graph.to_model(), {i.name: feeds[i.name] for i in graph.to_model().graph.input})
    assert value.rank == found.ndim
    assert all(said == size or not isinstance(said, int) for said, size in zip(value.dims, found.shape, strict=True))
    return found


def test_formulas() -> None:
    x = normal(2, 4)
    _, v = emitter("N", 4)
    np.testing.assert_allclose(
        run((2 - v) * 3 / (v * v + 1) - 1 / (v**2 + 0.5), x), (2 - x) * 3 / (x * x + 1) - 1 / (x * x + 0.5), rtol=1e-5
    )
    np.testing.assert_allclose(run(3 / (v * v + 1) ** 1.5 + -v, x), 3 / (x * x + 1) ** 1.5 - x, rtol=1e-5)
    np.testing.assert_array_equal(
        run((v > 0) & ~(v > 0.5) | (v < -1) | v.equals(0.5), x), ((x > 0) & (x <= 0.5)) | (x < -1)
    )


def test_what_changes_nothing_is_not_written() -> None:
    e, v = emitter("N", 4)
    count = len(e.graph.nodes)
    for same in (
        v + 0,
        0 + v,
        v - 0,
        v * 1,
        v / 1,
        v**1,
        e.cast(v, v.kind),
        e.transpose(v, [0, 1]),
        e.unsqueeze(v, []),
    ):
        assert same is v
    assert e.reduce("ReduceSum", e.unsqueeze(v, [1]), [1]).name == e.unsqueeze(v, [1]).name
    assert e.pad(v, 1, 0, 0) is v
    assert e.expand(v, v) is v
    assert len(e.graph.nodes) == count + 1, "the Unsqueeze"


def test_nodes_are_shared_with_each_other_and_with_the_forward_pass() -> None:
    e, v = emitter("N", 4)
    assert e("Sigmoid", v).name == "gate"
    assert (v * 2).name == (v * 2.0).name
    assert (v * 2).name != (v * 3).name
    apart, w = emitter("N", 4, share=False)
    assert apart("Sigmoid", w).name != "gate"


def test_constants_are_stored_once_for_each_type() -> None:
    e, _ = emitter("N", 4)
    assert e.constant(np.array([1, 2], np.float32)).name == e.constant(np.array([1, 2], np.float32)).name
    assert e.constant(np.array([0, 0], np.float32)).name != e.constant(np.array([0, 0], np.int32)).name
    assert e.ints([3, 4]).kind == TensorProto.INT64


def test_what_is_constant_is_computed_at_once() -> None:
    e, _ = emitter("N", 4)
    count = len(e.graph.nodes)
    total = e.constant(np.array([1, 2], np.float32)) * 3 + e.constant(np.array([10, 20], np.float32))
    np.testing.assert_array_equal(e.graph.constant(total.name), np.array([13, 26], np.float32))
    assert len(e.graph.nodes) == count


def test_sizes_are_numbers_where_they_are_known() -> None:
    e, v = emitter("N", 4, 5)
    x = normal(2, 4, 5)
    assert e.size_of(v, [1, 2]) == 20
    assert e.dim(v, 1) == 4
    batch = e.size_of(v, [0, 1])
    assert isinstance(batch, Value)
    assert run(batch, x) == 8
    np.testing.assert_allclose(run(e.scaled_by_size(v, batch), x), x * 8, rtol=1e-6)
    np.testing.assert_allclose(run(e.divided_by_size(v, 20), x), x / 20, rtol=1e-6)
    assert run(e.shape_of(v), x).tolist() == [2, 4, 5]


@pytest.mark.parametrize("dims", [(2, 4, 5), ("N", 4, "W")], ids=["static", "open"])
def test_moving_and_cutting(dims) -> None:
    e, v = emitter(*dims)
    x = normal(2, 4, 5)
    np.testing.assert_array_equal(run(e.transpose(v, [0, 2, 1]), x), x.transpose(0, 2, 1))
    np.testing.assert_array_equal(run(e.flip(v, [1, 2]), x), x[:, ::-1, ::-1])
    np.testing.assert_array_equal(run(e.slice(v, 2, 1, 4, 2, length=2), x), x[:, :, 1:4:2])
    np.testing.assert_array_equal(run(e.squeeze(e.unsqueeze(v, [1, 3]), [3]), x), x[:, None])
    np.testing.assert_array_equal(run(e.zeros_like(v), x), np.zeros_like(x))
    size = e.dim(v, 2)
    np.testing.assert_array_equal(
        run(e.pad(v, 2, 1, size, fill=3.0), x), np.pad(x, ((0, 0), (0, 0), (1, 5)), constant_values=3)
    )
    np.testing.assert_array_equal(
        run(e.reshape(v, v, (*dims[:1], 2, 2, *dims[2:]), [0, 1, 1, 2]), x), x.reshape(2, 2, 2, 5)
    )


@pytest.mark.parametrize("dims", [(2, 4, 5), ("N", 4, "W")], ids=["static", "open"])
def test_a_constant_axis_grows_where_it_is_asked_to(dims) -> None:
    e, v = emitter(*dims)
    x = normal(2, 4, 5)
    column = e.reduce("ReduceSum", v, [1, 2])
    np.testing.assert_allclose(
        run(e.expand(column, v), x), np.broadcast_to(x.sum((1, 2), keepdims=True), x.shape), rtol=1e-5
    )
    assert run(e.expand(column, v, [2]), x).shape == (2, 1, 5)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keep", [True, False])
def test_reductions_have_the_form_of_the_opset(opset: int, keep: bool) -> None:
    e, v = emitter("N", 4, 5, opset=opset)
    x = normal(2, 4, 5)
    for op, want in (("ReduceSum", np.sum), ("ReduceMax", np.max)):
        found = e.reduce(op, v, [2, 1], keepdims=keep)
        np.testing.assert_allclose(run(found, x), want(x, axis=(1, 2), keepdims=keep), rtol=1e-5)


def test_choices() -> None:
    e, v = emitter("N", 4)
    x = normal(2, 4)
    np.testing.assert_array_equal(run(e.where(v > 0, v, 2.0), x), np.where(x > 0, x, 2))
    np.testing.assert_array_equal(run(e.masked(v > 0, v), x), np.where(x > 0, x, 0))


@pytest.mark.parametrize("axis", [1, 2])
def test_the_seed_is_written_when_its_name_is_asked_for(axis: int) -> None:
    e, _ = emitter("N", 4)
    count = len(e.graph.nodes)
    seed = OneHot(e, e.value("classes"), TensorProto.FLOAT, ("N", 3) if axis == 1 else ("N", 1, 3), axis)
    assert len(e.graph.nodes) == count
    want = np.array([[0, 0, 1], [1, 0, 0]], np.float32)
    np.testing.assert_array_equal(run(seed, normal(2, 4), (2, 0)), want if axis == 1 else want[:, None])


def test_the_seed_follows_what_only_moves_its_classes() -> None:
    e, _ = emitter("N", 4)
    seed = OneHot(e, e.value("classes"), TensorProto.FLOAT, ("N", 3))
    tall = seed.with_shape(("N", 1, 3, 1))
    assert tall is not None
    assert tall.axis == 2
    turned = tall.transposed([0, 3, 1, 2])
    assert turned is not None
    assert (turned.shape, turned.axis) == (("N", 1, 1, 3), 3)
    assert tall.transposed([1, 0, 2, 3]) is None, "the batch moves"
    assert seed.with_shape(("N", 3, 2)) is None
    assert seed.with_shape((6,)) is None
    fixed = OneHot(e, e.value("classes"), TensorProto.FLOAT, (2, 3))
    assert fixed.with_shape((3, 2)) is None, "classes in the place of the batch"
    with pytest.raises(ExportError, match="the number of classes must be known"):
        OneHot(e, e.value("classes"), TensorProto.FLOAT, ("N", "K")).name  # noqa: B018


def test_shapes_that_contradict_each_other_are_said() -> None:
    e, v = emitter("N", 4)
    with pytest.raises(ExportError, match=r"cannot write a node MatMul of x: \('N', 4\).*contradict each other"):
        e("MatMul", v, e.constant(np.ones((5, 2), np.float32)))
    with pytest.raises(ExportError, match="the rank of value 'x' is unknown"):
        _ = Value(e, "x", TensorProto.FLOAT, None).rank


def test_types_of_one_node() -> None:
    e, _ = emitter("N", 4)
    node = helper.make_node("TopK", ["x", "k"], ["values", "places"])
    e.graph.add_constant("k", np.array([2]))
    assert infer_node(e.graph, node) == {
        "values": (TensorProto.FLOAT, ("N", 2)),
        "places": (TensorProto.INT64, ("N", 2)),
    }
