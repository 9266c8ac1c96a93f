"""What leaves the file: (N, C, H, W) in float32 under the outputs' names, by renaming where that is possible."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.axes.layout import NCHW, Digit, Layout, in_order
from cfcam.export.graph import Graph
from cfcam.export.reverse.candidate import Candidate
from cfcam.export.reverse.emitter import Emitter, Value
from cfcam.export.reverse.exposing import Exposing
from onnx import TensorProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal

WINDOWS = Layout("NTC", 0, (Digit("H", 2, 2), Digit("W", 3, 2), Digit("H", 1, 2), Digit("W", 1, 3)))


def opened(shape: tuple, axes: Layout, outputs: tuple[str, ...] = ("y",)) -> tuple[Graph, Emitter, Candidate]:
    """A value `layer` (twice the input) of this shape, and behind it `y`."""
    nodes = [helper.make_node("Add", ["x", "x"], ["layer"], name="maker"), helper.make_node("Relu", ["layer"], ["y"])]
    graph = Graph(make(nodes, inputs={"x": list(shape)}, outputs=outputs))
    return graph, Emitter(graph), Candidate("layer", "maker", "Add", shape, axes, 0)


def given_out(
    graph: Graph, emitter: Emitter, layer: Candidate, slope: Value, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    exposing = Exposing(graph, emitter)
    exposed = exposing.prepare(layer, slope)
    exposing.name_activations(exposed, "maps")
    exposing.name_output(exposed.gradients, "slopes", exposed.dims)
    graph.outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("maps", "slopes")]
    maps, slopes = run_ort(graph.to_model(), {"x": x})
    return maps, slopes, exposed.pooled


LAYOUTS = {
    "channels first": ((2, 3, 4, 6), NCHW, (0, 1, 2, 3)),
    "channels last": ((2, 4, 6, 3), Layout("NHWC"), (0, 3, 1, 2)),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("batch", [2, "N"])
def test_channels_come_first(name: str, batch: int | str) -> None:
    shape, axes, order = LAYOUTS[name]
    graph, emitter, layer = opened((batch, *shape[1:]), axes)
    x = normal(*shape)
    maps, slopes, pooled = given_out(graph, emitter, layer, emitter("Sin", emitter.value("layer")), x)
    np.testing.assert_array_equal(maps, (2 * x).transpose(order))
    np.testing.assert_allclose(slopes, np.sin(2 * x).transpose(order), rtol=1e-5, atol=1e-6)
    assert not pooled


@pytest.mark.parametrize(("axes", "tokens"), [(in_order(4, 6), 24), (in_order(4, 6, 2), 26), (WINDOWS, 24)])
@pytest.mark.parametrize("batch", [2, "N"])
def test_tokens_come_out_where_their_cells_lie(axes: Layout, tokens: int, batch: int | str) -> None:
    graph, emitter, layer = opened((batch, tokens, 3), axes)
    x = normal(2, tokens, 3)
    maps, slopes, pooled = given_out(graph, emitter, layer, emitter.value("layer") * 0.5, x)
    np.testing.assert_array_equal(maps, axes.to_nchw(2 * x))
    np.testing.assert_allclose(slopes, axes.to_nchw(x), rtol=1e-6)
    assert maps.shape == (2, 3, 4, 6)
    assert not pooled


@pytest.mark.parametrize("factor", [None, 1 / 24])
@pytest.mark.parametrize("batch", [2, "N"])
def test_a_gradient_that_a_pooling_made_constant_is_filled(factor: float | None, batch: int | str) -> None:
    """With its last constant factor in the grid that it is multiplied by: no Expand."""
    graph, emitter, layer = opened((batch, 3, 4, 6), NCHW)
    x = normal(2, 3, 4, 6)
    slope = emitter.reduce("ReduceMax", emitter.value("layer"), [2, 3])
    want = (2 * x).max((2, 3), keepdims=True)
    if factor is not None:
        slope, want = slope * factor, want * factor
    _, slopes, pooled = given_out(graph, emitter, layer, slope, x)
    np.testing.assert_allclose(slopes, np.broadcast_to(want, x.shape), rtol=1e-6)
    assert pooled
    assert "Expand" not in {node.op_type for node in graph.nodes}


def test_zeros_of_the_tokens_in_front_do_not_hide_a_pooling() -> None:
    graph, emitter, layer = opened((2, 26, 3), in_order(4, 6, 2))
    x = normal(2, 26, 3)
    constant = emitter.reduce("ReduceMax", emitter.value("layer"), [1])
    over_grid = emitter("Expand", constant, emitter.ints([1, 24, 1]), shape=(2, 24, 3))
    _, slopes, pooled = given_out(graph, emitter, layer, emitter.pad(over_grid, 1, 2, 0, length=26), x)
    assert pooled
    np.testing.assert_allclose(slopes, np.broadcast_to((2 * x).max(1)[:, :, None, None], (2, 3, 4, 6)), rtol=1e-6)


def test_a_layer_takes_its_outputs_name_at_no_cost() -> None:
    graph, emitter, layer = opened((2, 3, 4, 6), NCHW)
    exposing = Exposing(graph, emitter)
    shown = exposing.prepare_activations(layer)
    assert exposing.name_activations(shown, "maps") == "maps"
    assert [(node.op_type, list(node.output)) for node in graph.nodes] == [("Add", ["maps"]), ("Relu", ["y"])]
    # A second name for a value that has been renamed already is a copy.
    exposing.name_output(shown.activations, "again", shown.dims)
    assert [list(node.input) + list(node.output) for node in graph.nodes if node.op_type == "Identity"] == [
        ["maps", "again"]
    ]


def test_a_layer_that_is_an_output_of_the_model_is_copied() -> None:
    graph, emitter, layer = opened((2, 3, 4, 6), NCHW, outputs=("y", "layer"))
    exposing = Exposing(graph, emitter)
    assert exposing.name_activations(exposing.prepare_activations(layer), "maps") == "layer"
    assert [list(node.input) + list(node.output) for node in graph.nodes if node.op_type == "Identity"] == [
        ["layer", "maps"]
    ]


def test_half_precision_leaves_in_float32() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["layer"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["layer"], ["y"], to=1),
    ]
    graph = Graph(make(nodes, inputs={"x": [2, 3, 4, 6]}))
    emitter = Emitter(graph)
    layer = Candidate("layer", "cast", "Cast", (2, 3, 4, 6), NCHW, 0)
    x = normal(2, 3, 4, 6)
    maps, slopes, _ = given_out(graph, emitter, layer, emitter.value("layer") * 2, x)
    assert (maps.dtype, slopes.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(maps, x.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(slopes, 2 * maps)
