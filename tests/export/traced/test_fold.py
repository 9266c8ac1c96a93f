"""Pass 3: batch norms go into convolutions, but never across the target layer."""

from __future__ import annotations

import torch
from cfcam.export.traced.candidates import Value, find_score, resolve_value
from cfcam.export.traced.capture import Captured, capture
from cfcam.export.traced.fold import fold_batch_norms
from small_nets import ConvNet, seeded
from torch import fx

EXAMPLE = torch.zeros(1, 3, 40, 40)
NORM = torch.ops.aten._native_batch_norm_legit_no_training.default


def folded(name: str | None) -> tuple[Captured, Value, fx.GraphModule, fx.Node]:
    captured = capture(seeded(ConvNet()), EXAMPLE)
    value = resolve_value(captured, find_score(captured), name)
    graph, (layer,) = fold_batch_norms(captured.graph, [value.node])
    return captured, value, graph, layer


def test_outputs_stay_and_no_norm_is_left_behind_the_layer() -> None:
    captured, _, graph, _ = folded("act:0")
    image = torch.randn(3, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(graph(image)[0], captured.graph(image)[0], rtol=1e-5, atol=1e-6)
    assert len([n for n in captured.graph.graph.nodes if n.target is NORM]) == 2
    # The one before the layer is the converter's to fold, exactly as in a plain export.
    assert len([n for n in graph.graph.nodes if n.target is NORM]) == 1


def test_a_norm_behind_the_target_convolution_stays() -> None:
    _, value, graph, layer = folded("conv2")
    assert layer.name == value.node.name
    assert [n.args[0] for n in graph.graph.nodes if n.target is NORM][1] is layer


def test_the_original_graph_and_module_are_untouched() -> None:
    net = seeded(ConvNet())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    captured = capture(net, EXAMPLE)
    names = [node.name for node in captured.graph.graph.nodes]
    fold_batch_norms(captured.graph, [resolve_value(captured, find_score(captured), None).node])
    assert [node.name for node in captured.graph.graph.nodes] == names
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
