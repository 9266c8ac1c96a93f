"""The helper that makes random networks worth testing with."""

from __future__ import annotations

import copy

import pytest
import torch
from calibrated import assert_spread, calibrate, photo_batch
from torch import nn


class _Dead(nn.Module):
    """Untrained in every bad way: a layer scale of 1e-6, a gate at zero, a head of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 1)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-6))
        self.head = nn.Linear(8, 5)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.norm.weight)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return x + self.gamma * self.branch(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).square().mean((2, 3)))


def _explained(module: _Dead, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    activations = module.features(images).detach().requires_grad_()
    logits = module.head(activations.square().mean((2, 3)))
    classes = torch.arange(len(images)) % 5
    (gradients,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), activations)
    return logits.detach(), activations.detach(), gradients


def test_a_dead_network_comes_alive() -> None:
    images = photo_batch(6, 32)
    module = _Dead()
    with pytest.raises(AssertionError, match="logits: the same for every image"):
        assert_spread(*_explained(module.eval(), images))
    calibrate(module, images)
    assert_spread(*_explained(module, images))
    assert float(module.gamma.detach().min()) >= 0.5
    assert not any(m.training for m in module.modules())


def test_calibration_is_repeatable_and_undoes_its_hooks() -> None:
    torch.manual_seed(1)
    first = _Dead()
    second = _Dead()
    second.load_state_dict(first.state_dict())
    images = photo_batch(6, 32)
    calibrate(first, images)
    calibrate(second, images)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    before = {name: value.clone() for name, value in first.state_dict().items()}
    first(images * 3 + 1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert first.norm.momentum == 0.1


def test_every_convolution_has_unit_variance_on_the_photos() -> None:
    images = photo_batch(8, 32)
    first = nn.Conv2d(3, 6, 5, stride=2)
    calibrate(nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(1176, 4)), images)
    values = first(images)
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3)), torch.ones(6), atol=1e-3, rtol=0)


def test_a_head_is_scaled_as_a_whole_so_that_rounding_is_not_blown_up() -> None:
    images = photo_batch(8, 32)
    module = nn.Sequential(nn.Conv2d(3, 64, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    logits = calibrate(module, images)(images).detach()
    exact = copy.deepcopy(module).double()(images.double()).detach()
    assert 0.2 < float(logits.abs().max()) < 5
    assert float((logits - exact).abs().max() / exact.abs().max()) < 2e-6


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        (0, lambda v: v[:1].expand_as(v), "logits: the same for every image"),
        (0, lambda v: v[:, :1].expand_as(v), "logits: the same for every class"),
        (1, lambda v: v.mean((2, 3), keepdim=True).expand_as(v), "activations: the same in every cell"),
        (2, lambda v: v.mean(1, keepdim=True).expand_as(v), "gradients: the same for every channel"),
        (2, lambda v: v * torch.nan, "gradients: not finite"),
    ],
)
def test_what_does_not_spread_is_noticed(part: int, change, words: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=generator)
    activations = torch.randn(4, 3, 6, 6, generator=generator) + 1
    gradients = torch.randn(4, 3, 6, 6, generator=generator) + torch.randn(1, 3, 1, 1, generator=generator)
    assert_spread(logits, activations, gradients)
    changed = [change(v) if i == part else v for i, v in enumerate((logits, activations, gradients))]
    with pytest.raises(AssertionError, match=words):
        assert_spread(changed[0], changed[1], changed[2])


def test_photos_differ_and_have_the_asked_size() -> None:
    images = photo_batch(14, (24, 40))
    assert images.shape == (14, 3, 24, 40)
    assert min(float((a - b).abs().max()) for i, a in enumerate(images) for b in images[:i]) > 0.1
    assert photo_batch(2, 16, channels=1).shape == (2, 1, 16, 16)
