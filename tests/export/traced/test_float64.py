"""Captured programs in float64: whole, and cut at the layer, against PyTorch itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cfcam.export.traced.float64 import TailProgram, run_in_float64, values_of
from opened_modules import Opened, opened
from small_nets import ConvNet, seeded
from tail_gradients import assert_same, captured_nodes, gradients, nodes_of
from torch import Tensor, nn
from torch.nn import functional as F

IMAGES = torch.randn(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([7, 0, 3])


def test_a_whole_run_is_the_modules_own_in_float64() -> None:
    net = seeded(ConvNet())
    captured, score, node = captured_nodes(net, IMAGES[:1])
    activations, scores = run_in_float64(captured.graph, IMAGES, node, score)
    in_float32 = values_of(captured.graph, IMAGES, score)[0]
    wide = seeded(ConvNet()).double()
    assert (scores.dtype, in_float32.dtype) == (torch.float64, torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(scores, wide(IMAGES.double()), rtol=0, atol=1e-11)
        torch.testing.assert_close(activations, wide.features(IMAGES.double()), rtol=0, atol=1e-11)
        assert torch.equal(in_float32, seeded(ConvNet())(IMAGES))
    assert all(parameter.dtype is torch.float32 for parameter in net.parameters())


@pytest.fixture(scope="module")
def plain() -> Opened:
    return opened(seeded(ConvNet()), IMAGES[:1])


@pytest.mark.parametrize("layer", ["conv1", "act:0", "bn2", "act:1", None])
def test_the_tails_gradient_is_the_modules_own(plain: Opened, layer: str | None) -> None:
    captured, score, node = nodes_of(plain, layer)
    tail = TailProgram(captured.graph, node, score, 3)
    assert (tail.border, tail.inputs) == ([], ["layer"])
    (held,) = run_in_float64(captured.graph, IMAGES, node)
    wide, kept = seeded(ConvNet()).double(), []
    wide.act.inplace = False
    module = wide.get_submodule((layer or "act").partition(":")[0])
    module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    picked = wide(IMAGES.double()).gather(1, CLASSES[:, None]).sum()
    call = int((layer or "act:2").partition(":")[2] or 0)
    (expected,) = torch.autograd.grad(picked, kept[call])
    assert_same(tail.gradient(held, [], CLASSES).numpy(), expected, 1e-11)


class Around(ConvNet):
    """A value made before the layer goes round it: a gate, and a skip."""

    def forward(self, image: Tensor) -> Tensor:
        early = self.pool(self.act(self.bn1(self.conv1(image))))
        layer = self.act(self.bn2(self.conv2(early)))
        mixed = layer * torch.sigmoid(early.mean(1, keepdim=True)) + early.mean((1, 2, 3), keepdim=True)
        return self.fc(self.act(self.conv3(mixed)).mean((2, 3)))


def test_values_that_bypass_the_layer_are_inputs() -> None:
    found = gradients(seeded(Around()), IMAGES, CLASSES, "act:1")
    assert len(found.tail.border) == 2
    assert found.tail.inputs == ["layer", "beside_1", "beside_2"]
    assert_same(found.passes, found.autograd)


class Sized(ConvNet):
    """Reads its batch size in the part behind the layer."""

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        n, c, h, w = features.shape
        more = self.fc.weight[:1, :1, None, None].expand(n, 1, h, w)
        rows = torch.cat([features, more], 1).permute(0, 2, 1, 3).reshape(-1, c + 1, w).tanh()
        return self.fc(rows.reshape(n, h, c + 1, w)[:, :, :c].mean((1, 3)))


@pytest.mark.parametrize("count", [1, 3])
def test_symbolic_sizes_become_numbers(count: int) -> None:
    found = gradients(seeded(Sized()), IMAGES[:count], CLASSES[:count])
    assert_same(found.passes, found.autograd)


def test_a_detach_is_seen_through() -> None:
    class Stopped(ConvNet):
        def forward(self, image: Tensor) -> Tensor:
            features = self.features(image)
            return self.fc((features * features.sigmoid().detach()).mean((2, 3)))

    class Flowing(ConvNet):
        def forward(self, image: Tensor) -> Tensor:
            features = self.features(image)
            return self.fc((features * features.sigmoid()).mean((2, 3)))

    stopped, flowing = (gradients(seeded(net()), IMAGES, CLASSES, "act:2") for net in (Stopped, Flowing))
    assert_same(stopped.passes, flowing.autograd)
    np.testing.assert_array_equal(stopped.autograd, flowing.autograd)


class Constants(nn.Module):
    """Numbers in the code, which are float32's in the network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 8)

    def forward(self, image: Tensor) -> Tensor:
        layer = F.leaky_relu(self.conv(image), 0.01)
        return self.fc((F.leaky_relu(layer - 0.1, 0.3) * 0.7).mean((2, 3)))


def test_numbers_in_the_code_are_rounded_as_in_the_network() -> None:
    torch.manual_seed(0)
    net = Constants().eval()
    found = gradients(net, IMAGES, CLASSES, "leaky_relu")
    assert_same(found.passes, found.autograd, 1e-14)
    slopes = found.autograd / (net.fc.weight.detach().double().numpy()[CLASSES][:, :, None, None] / 38**2)
    rounded = [float(np.float32(0.7)), float(np.float32(0.7)) * float(np.float32(0.3))]
    assert np.abs(slopes[..., None] - rounded).min(-1).max() < 1e-12


@pytest.mark.parametrize("function", [F.hardsigmoid, F.hardswish])
def test_a_sixth_is_a_sixth(function: object) -> None:
    """PyTorch's kernel in float64, and attributes of ONNX, have float32's: off by 3e-8."""

    class Gated(ConvNet):
        def forward(self, image: Tensor) -> Tensor:
            return self.fc(function(self.features(image) - 1).mean((2, 3)))  # type: ignore[operator]

    found = gradients(seeded(Gated()), IMAGES, CLASSES, "act:2")
    assert_same(found.passes, found.autograd, 1e-13)
