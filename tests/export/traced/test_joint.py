"""Passes 4 to 6: the joint graph is right, starts from the chosen class, and is lean."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from cfcam.export.axes.layout import NCHW
from cfcam.export.errors import LayerError
from cfcam.export.torch_export import joint_graph
from cfcam.export.traced.candidates import find_score, resolve_value
from cfcam.export.traced.capture import Captured, capture
from cfcam.export.traced.differentiate import differentiate
from cfcam.export.traced.eager import in_float64, run_eager, value_of
from small_nets import ConvNet, HeadConv, TwoOutputs, seeded
from torch import fx, nn

EXAMPLE = torch.zeros(1, 3, 40, 40)
NETS = {"linear head": ConvNet, "convolution head and softmax": HeadConv, "two outputs": TwoOutputs}


def build(net: nn.Module, layer: str | None) -> tuple[Captured, fx.GraphModule, fx.GraphModule, fx.Node, fx.Node]:
    """The capture, the joint graph in float64, and the float64 graph with its layer and score."""
    captured = capture(net, EXAMPLE)
    score = find_score(captured)
    value = resolve_value(captured, score, layer)
    wide, (node, logits) = in_float64(captured.graph, value.node, score.node)
    return captured, joint_graph(wide, {node: value.layout}, logits), wide, node, logits


@pytest.mark.parametrize("layer", [None, "bn2", "act:0", "conv1"])
@pytest.mark.parametrize("name", NETS)
def test_gradients_equal_autograd_on_the_module(name: str, layer: str | None) -> None:
    net = seeded(NETS[name]())
    _, joint, wide, node, logits = build(net, layer)
    for batch in (1, 4):
        image = torch.randn(batch, 3, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        target = torch.tensor([7, -1, 0, 3][:batch])
        with torch.no_grad():
            *outputs, activations, gradients, chosen = joint(image, target)
        layer_value, scores = value_of(wide, image, node, logits)
        eager = run_eager(net, image, layer_value, scores)
        expected = eager.gradient(chosen)
        assert float(expected.abs().amax(dim=(1, 2, 3)).min()) > 1e-4  # nothing vanished: zero would pass anything
        torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(activations, eager.leaf.detach(), rtol=0, atol=1e-12)
        for found, wanted in zip(outputs, eager.outputs, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_the_gradient_is_the_slope_of_the_score() -> None:
    """By differences of the module itself: no graph, no autograd."""
    net = seeded(ConvNet()).double()
    _, joint, *_ = build(net.float(), "conv3")
    net = net.double()
    image = torch.randn(1, 3, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        _, activations, gradients, _ = joint(image, torch.tensor([4]))

        def score(value: torch.Tensor) -> torch.Tensor:
            return net.fc(torch.relu(value).mean((2, 3)))[0, 4]

        direction = torch.randn(activations.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
        step = 1e-6
        numeric = (score(activations + step * direction) - score(activations - step * direction)) / (2 * step)
    torch.testing.assert_close((gradients * direction).sum(), numeric, rtol=1e-4, atol=0)


def test_minus_one_is_the_top_class_of_each_image() -> None:
    _, joint, *_ = build(seeded(ConvNet()), None)
    image = torch.randn(5, 3, 40, 40, dtype=torch.float64) * 3
    with torch.no_grad():
        outputs, _, top, chosen = joint(image, torch.full((5,), -1))
        _, _, asked, answered = joint(image, outputs.argmax(1))
    assert torch.equal(chosen, outputs.argmax(1))
    assert torch.equal(answered, chosen)
    torch.testing.assert_close(top, asked)


def operators(graph: fx.GraphModule) -> Counter[str]:
    return Counter(str(node.target).removeprefix("aten.") for node in graph.graph.nodes if node.op == "call_function")


@pytest.mark.parametrize("name", ["linear head", "convolution head and softmax"])
def test_the_class_row_is_gathered_and_no_one_hot_is_made(name: str) -> None:
    _, joint, *_ = build(seeded(NETS[name]()), None)
    found = operators(joint)
    assert found["index_select.default"] == 1
    assert not found["eq.Tensor"]
    assert not found["mm.default"]
    assert found["convolution.default"] == (3 if name == "linear head" else 4)  # no convolution backwards


def test_a_score_without_a_weight_to_gather_from_takes_a_comparison() -> None:
    net = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    _, joint, *_ = build(seeded(net), None)
    found = operators(joint)
    assert found["eq.Tensor"] == 1
    assert not any("scatter" in name or "index_put" in name for name in found)


def test_nothing_that_engines_refuse_and_nothing_twice() -> None:
    _, joint, *_ = build(seeded(ConvNet()), "act:0")  # a max pooling lies behind it
    found = operators(joint)
    assert found["max_pool2d.default"] == 1
    for word in ("indices", "scatter", "index_put", "nonzero", "detach", "clone"):
        assert not any(word in name for name in found), word
    keys = [(n.target, n.args, tuple(n.kwargs.items())) for n in joint.graph.nodes if n.op == "call_function"]
    assert len({repr(key) for key in keys}) == len(keys)


def test_expands_wait_until_the_end() -> None:
    _, joint, *_ = build(seeded(ConvNet()), None)
    (output,) = (node for node in joint.graph.nodes if node.op == "output")
    gradients = output.args[0][2]
    assert str(gradients.target) == "aten.expand.default"
    assert tuple(gradients.args[0].meta["val"].shape[1:]) == (16, 1, 1)


def test_a_layer_that_does_not_reach_the_score_is_an_error() -> None:
    class Cut(ConvNet):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            features = self.features(image)
            return self.fc(features.mean((2, 3)).detach())

    captured = capture(seeded(Cut()), EXAMPLE)
    score = find_score(captured)
    with pytest.raises(LayerError, match=r"layer 'conv2d_2' does not reach the score 'linear'"):
        differentiate(captured.graph, {resolve_value(captured, score, "conv3").node: NCHW}, score.node)
