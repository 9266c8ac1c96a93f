"""Pass 1: a module becomes a functional graph with a symbolic batch."""

from __future__ import annotations

import pytest
import torch
from cfcam.export.errors import ExportError
from cfcam.export.traced.capture import capture, evaluation_mode
from small_nets import ConvNet, TwoOutputs, seeded
from torch import nn

EXAMPLE = torch.zeros(1, 3, 40, 40)


def test_the_graph_computes_what_the_module_computes_at_any_batch_size() -> None:
    net = seeded(ConvNet())
    captured = capture(net, EXAMPLE)
    for batch in (1, 4):
        image = torch.randn(batch, 3, 40, 40)
        with torch.no_grad():
            torch.testing.assert_close(captured.graph(image)[0], net(image))


def test_in_place_operators_are_gone() -> None:
    captured = capture(seeded(ConvNet()), EXAMPLE)
    targets = [str(node.target) for node in captured.graph.graph.nodes]
    assert any("relu.default" in target for target in targets)
    assert not any("relu_." in target for target in targets)


def test_a_training_module_is_captured_in_eval_mode_and_left_in_training() -> None:
    net = seeded(ConvNet())
    image = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = net(image)
    net.train()
    net.bn1.eval()
    assert net.bn2.running_mean is not None
    before = net.bn2.running_mean.clone()
    captured = capture(net, EXAMPLE)
    torch.testing.assert_close(captured.graph(image)[0], expected)
    assert net.training
    assert not net.bn1.training
    assert torch.equal(net.bn2.running_mean, before)


def test_outputs_of_a_dict_are_flattened_in_order() -> None:
    captured = capture(seeded(TwoOutputs()), EXAMPLE)
    assert [tuple(node.meta["val"].shape[1:]) for node in captured.outputs] == [(16, 6, 6), (10,)]


def test_two_images_are_refused_by_name() -> None:
    class Pair(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left + right

    with pytest.raises(ExportError, match=r"Pair\.forward needs 2 inputs \(left, right\)"):
        capture(Pair(), EXAMPLE)


def test_control_flow_on_data_is_refused_with_the_reason() -> None:
    class Branch(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean((2, 3)) if image.sum() > 0 else image.amax((2, 3))

    with pytest.raises(ExportError, match=r"Branch: forward decides by the values of a tensor .*torch\.where"):
        capture(Branch(), EXAMPLE)


def test_a_module_without_tensors_is_refused() -> None:
    class Nothing(nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return []

    with pytest.raises(ExportError, match="returns no tensor"):
        capture(Nothing(), EXAMPLE)


def test_evaluation_mode_restores_after_an_error() -> None:
    net = ConvNet().train()

    def fail() -> None:
        with evaluation_mode(net):
            assert not net.bn1.training
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert net.bn1.training
