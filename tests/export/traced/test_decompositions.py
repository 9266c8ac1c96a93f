"""The adjoints that PyTorch does not decompose, against autograd in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cfcam.export.traced import decompositions
from torch.nn import functional as F

SIZES = [(9, 9), (10, 7), (12, 13)]


def pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def autograd(function: Any, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A random output gradient, and what autograd makes of it."""
    source = source.clone().requires_grad_(True)
    result = function(source)
    gradient = torch.randn(result.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return gradient, torch.autograd.grad(result, source, gradient)[0]


def source(height: int, width: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": (2, 3), "stride": (2, 1), "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2},
        {"kernel_size": 2, "stride": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_max_pool(size: tuple[int, int], options: dict[str, Any], ties: bool) -> None:
    value = source(*size)
    if ties:  # whole windows are zero after a ReLU; coarse rounding makes ties above zero too
        value = (value * 2).round().relu()
    gradient, expected = autograd(lambda x: F.max_pool2d(x, **options), value)
    found = decompositions._max_pool_backward(
        gradient,
        value,
        pair(options["kernel_size"]),
        pair(options["stride"]),
        pair(options.get("padding", 0)),
        pair(options.get("dilation", 1)),
        options.get("ceil_mode", False),
        torch.empty(0),
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": (2, 3), "stride": (2, 2), "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
        {"kernel_size": 2, "divisor_override": 3},
        {"kernel_size": 2, "stride": 3},
    ],
    ids=str,
)
def test_average_pool(size: tuple[int, int], options: dict[str, Any]) -> None:
    value = source(*size)
    gradient, expected = autograd(lambda x: F.avg_pool2d(x, **options), value)
    found = decompositions._avg_pool_backward(
        gradient,
        value,
        pair(options["kernel_size"]),
        pair(options["stride"]) if "stride" in options else [],
        pair(options.get("padding", 0)),
        options.get("ceil_mode", False),
        options.get("count_include_pad", True),
        options.get("divisor_override"),
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "grid"), [((10, 7), (3, 4)), ((6, 6), (6, 6)), ((13, 13), (6, 6)), ((4, 9), (4, 3))])
def test_adaptive_average_pool(size: tuple[int, int], grid: tuple[int, int]) -> None:
    value = source(*size)
    gradient, expected = autograd(lambda x: F.adaptive_avg_pool2d(x, grid), value)
    found = decompositions._adaptive_avg_pool_backward(gradient, value)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"stride": 3, "groups": 2},
    ],
    ids=str,
)
def test_convolution(size: tuple[int, int], options: dict[str, Any]) -> None:
    value = source(*size, channels=4)
    groups = options.get("groups", 1)
    weight = torch.randn(6, 4 // groups, 3, 3, dtype=torch.float64)
    gradient, expected = autograd(lambda x: F.conv2d(x, weight, **options), value)
    found, _, _ = decompositions._convolution_backward(
        gradient,
        value,
        weight,
        None,
        pair(options["stride"]),
        pair(options.get("padding", 0)),
        pair(options.get("dilation", 1)),
        False,
        [0, 0],
        groups,
        [True, False, False],
    )
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_transposed_convolution() -> None:
    value = source(6, 5, channels=4)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    gradient, expected = autograd(lambda x: F.conv_transpose2d(x, weight, stride=2, padding=1, output_padding=1), value)
    found, _, _ = decompositions._convolution_backward(
        gradient, value, weight, None, [2, 2], [1, 1], [1, 1], True, [1, 1], 1, [True, False, False]
    )
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
