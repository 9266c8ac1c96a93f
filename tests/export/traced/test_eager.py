"""Eager PyTorch as the oracle, and what has to be kept from it."""

from __future__ import annotations

import torch
from cfcam.export.traced.candidates import find_score, resolve_value
from cfcam.export.traced.capture import capture
from cfcam.export.traced.eager import run_eager, value_of
from small_nets import seeded
from torch import Tensor, nn


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
    module = seeded(TokensAfterNorm()).double()
    image = torch.randn(1, 3, 15, 15, generator=torch.Generator().manual_seed(0)).double()
    captured = capture(module, image)
    scores = find_score(captured)
    layer = resolve_value(captured, scores, "conv")

    def gradient(images: Tensor) -> Tensor:
        held, logits = value_of(captured.graph, images, layer.node, scores.node)
        return run_eager(module, images, held, logits).own_gradient(torch.zeros(len(images), dtype=torch.int64))

    alone, among = gradient(image), gradient(torch.cat([image, -image]))
    torch.testing.assert_close(alone[0], among[0], rtol=1e-12, atol=1e-15)
