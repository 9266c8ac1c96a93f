"""The module's own run and its own autograd, and what has to be kept from them."""

from __future__ import annotations

import pytest
import torch
from cfcam.export.traced.eager import eager_outputs, own_gradient
from cfcam.export.traced.float64 import run_in_float64
from small_nets import ConvNet, TwoOutputs, seeded
from tail_gradients import captured_nodes
from torch import Tensor, nn

IMAGES = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([1, 2])


def recognised(module: nn.Module, layer: str | None = None, images: Tensor = IMAGES) -> tuple[Tensor, Tensor | None]:
    """The layer's value, and the gradient of the module's own autograd there."""
    captured, score, node = captured_nodes(module, images[:1], layer)
    held, scores = run_in_float64(captured.graph, images, node, score)
    return held, next(iter(own_gradient(module, images.double(), held, scores, CLASSES[: len(images)])), None)


class TokensAfterNorm(nn.Module):
    """A batch norm whose gradient comes back through tokens: with the strides of channels-last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.tokens = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.norm(self.conv(image)).flatten(2).transpose(1, 2)
        return self.fc(torch.tanh(self.tokens(tokens)).mean(1))


def test_a_batch_of_one_has_the_gradient_that_it_has_among_others() -> None:
    module = seeded(TokensAfterNorm())
    image = IMAGES[:1, :, :15, :15]
    _, alone = recognised(module, "conv", image)
    _, among = recognised(module, "conv", torch.cat([image, -image]))
    assert alone is not None
    assert among is not None
    torch.testing.assert_close(alone[0], among[0], rtol=1e-12, atol=1e-15)


class Inline(ConvNet):
    """The layer is the result of an operator, not of a module; `stop` is put behind it."""

    def stop(self, value: Tensor) -> Tensor:
        return value

    def forward(self, image: Tensor) -> Tensor:
        features = torch.relu(self.conv1(image)) * 2 - 0.5
        layer = torch.cat([features, features**2], 1)
        return self.fc(self.stop(layer).mean((2, 3)))


def test_a_value_that_no_module_returns_is_recognised() -> None:
    module = seeded(Inline())
    held, gradient = recognised(module)
    assert gradient is not None
    assert held.shape == (2, 16, 20, 20)
    torch.testing.assert_close(gradient[:, :, 0, 0], module.fc.weight.detach()[CLASSES].double() / (20 * 20))


def test_behind_a_detach_there_is_none() -> None:
    class Stopped(Inline):
        def stop(self, value: Tensor) -> Tensor:
            return value.detach()

    assert recognised(seeded(Stopped()))[1] is None


def test_a_run_that_makes_other_values_is_said() -> None:
    module = seeded(Inline())
    captured, score, node = captured_nodes(module, IMAGES[:1])
    held, scores = run_in_float64(captured.graph, IMAGES, node, score)
    with pytest.raises(LookupError, match="layer"):
        own_gradient(module, IMAGES.double(), held + 1, scores, CLASSES)
    with pytest.raises(LookupError, match="score"):
        own_gradient(module, IMAGES.double(), held, scores + 1, CLASSES)


def test_outputs_are_flat_and_the_module_stays_in_its_mode() -> None:
    module = seeded(TwoOutputs()).train()
    grid, logits = eager_outputs(module, IMAGES)
    assert module.training
    with torch.no_grad():
        expected = module.eval()(IMAGES)
    assert torch.equal(grid, expected["grid"])
    assert torch.equal(logits, expected["logits"])


class Idle(nn.Module):
    """The layer, a convolution that does nothing, and a ReLU: three values that hold the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 8, 8), nn.ReLU()
        self.idle, self.fc = nn.Conv2d(4, 4, 1, bias=False), nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(torch.relu(self.idle(self.relu(self.conv(image)))).mean((2, 3)))


def test_values_that_hold_the_same_have_gradients_of_their_own() -> None:
    module = seeded(Idle())
    nn.init.eye_(module.idle.weight.data[:, :, 0, 0])
    captured, score, node = captured_nodes(module, IMAGES[:1], "relu")
    held, scores = run_in_float64(captured.graph, IMAGES, node, score)
    first, idle, last = own_gradient(module, IMAGES.double(), held, scores, CLASSES)
    whole = module.fc.weight.detach()[CLASSES].double()[:, :, None, None] / 25
    torch.testing.assert_close(last, whole.expand_as(held))
    torch.testing.assert_close(first, whole * (held > 0))  # the second ReLU passes nothing where there is nothing
    torch.testing.assert_close(idle, whole * (held > 0))
