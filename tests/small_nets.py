"""Small classifiers that hold what real ones are made of, for tests that must be quick."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Net = TypeVar("Net", bound=nn.Module)

__all__ = ["ConvNet", "HeadConv", "TwoOutputs", "seeded"]


def seeded(net: Net, seed: int = 0) -> Net:
    """`net` with random weights and statistics that are not the trivial ones, in eval mode."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: torch.Size, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    with torch.no_grad():
        for module in net.modules():
            if (
                isinstance(module, nn.BatchNorm2d)
                and module.running_mean is not None
                and module.running_var is not None
            ):
                module.weight.copy_(draw(module.weight.shape, 0.5, 1.5))
                module.bias.copy_(draw(module.bias.shape, -0.5, 0.5))
                module.running_mean.copy_(draw(module.running_mean.shape, -0.5, 0.5))
                module.running_var.copy_(draw(module.running_var.shape, 0.5, 2.0))
            elif isinstance(module, nn.Conv2d | nn.Linear):
                fan = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(draw(module.bias.shape, -0.3, 0.3))
    return net.eval()


class ConvNet(nn.Module):
    """Convolutions with batch norm, a ReLU that is called three times, two poolings, a linear head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.bn2 = nn.BatchNorm2d(12)
        self.conv3 = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16, classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.bn1(self.conv1(x))))
        x = self.act(self.bn2(self.conv2(x)))
        return self.act(self.conv3(x))

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.features(image).mean((2, 3)))


class HeadConv(ConvNet):
    """The head is a 1x1 convolution on the pooled grid, and a softmax ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(16, 10, 1)  # type: ignore[assignment]

    def forward(self, image: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(self.features(image), 1)
        return torch.softmax(self.fc(pooled).flatten(1), dim=1)


class TwoOutputs(ConvNet):
    """Returns the features' mean before the class scores, in a dict."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        features = self.features(image)
        return {"grid": features, "logits": self.fc(F.relu(features - 0.1).mean((2, 3)))}
