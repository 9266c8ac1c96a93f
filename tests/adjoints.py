"""Gradients by autograd, to hold adjoints against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["autograd", "pair", "random_source"]


def pair(value: Any) -> list[int]:
    """An argument for both axes, as ATen operators take it."""
    return [value, value] if isinstance(value, int) else list(value)


def autograd(
    function: Callable[[torch.Tensor], torch.Tensor], source: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random gradient of the result, and what autograd makes of it."""
    source = source.clone().requires_grad_(True)
    result = function(source)
    gradient = torch.randn(result.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return gradient, torch.autograd.grad(result, source, gradient)[0]


def random_source(height: int, width: int, channels: int = 3) -> torch.Tensor:
    """(2, channels, height, width) in float64, the same numbers for the same sizes."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)
