"""Pass 3: batch norms go into convolutions, but never across the target layer."""

from __future__ import annotations

import torch
from cfcam.export.traced.capture import capture
from cfcam.export.traced.fold import fold_batch_norms
from cfcam.export.traced.values import find_score, resolve_value
from small_nets import ConvNet, seeded

EXAMPLE = torch.zeros(1, 3, 40, 40)
NORM = torch.ops.aten._native_batch_norm_legit_no_training.default


def folded(layer: str | None):
    captured = capture(seeded(ConvNet()), EXAMPLE)
    value = resolve_value(captured, find_score(captured), layer)
    return captured, value, *fold_batch_norms(captured.graph, value.node)


def test_outputs_stay_and_no_norm_is_left() -> None:
    captured, _, graph, _ = folded(None)
    image = torch.randn(3, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(graph(image)[0], captured.graph(image)[0], rtol=1e-5, atol=1e-6)
    assert [n for n in captured.graph.graph.nodes if n.target is NORM]
    assert not [n for n in graph.graph.nodes if n.target is NORM]


def test_a_norm_behind_the_target_convolution_stays() -> None:
    _, value, graph, layer = folded("conv2")
    assert layer.name == value.node.name
    assert [n.args[0] for n in graph.graph.nodes if n.target is NORM] == [layer]


def test_a_target_that_is_a_norm_becomes_the_folded_convolution() -> None:
    from cfcam.export.traced.oracle import value_of

    captured, value, graph, layer = folded("bn2")
    image = torch.randn(2, 3, 40, 40)
    assert "conv2d" in str(layer.target)
    torch.testing.assert_close(
        value_of(graph, image, layer)[0], value_of(captured.graph, image, value.node)[0], rtol=1e-5, atol=1e-5
    )


def test_the_original_graph_and_module_are_untouched() -> None:
    net = seeded(ConvNet())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    captured = capture(net, EXAMPLE)
    names = [node.name for node in captured.graph.graph.nodes]
    fold_batch_norms(captured.graph, resolve_value(captured, find_score(captured), None).node)
    assert [node.name for node in captured.graph.graph.nodes] == names
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
