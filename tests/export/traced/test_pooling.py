"""The adjoints of poolings, against autograd in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adjoints import autograd, pair, random_source
from cfcam.export.traced import pooling
from torch.nn import functional as F

SIZES = [(9, 9), (10, 7), (12, 13)]


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
        {"kernel_size": (3, 1), "stride": (3, 1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_max_pool(size: tuple[int, int], options: dict[str, Any], ties: bool) -> None:
    value = random_source(*size)
    if ties:  # whole windows are zero after a ReLU; coarse rounding makes ties above zero too
        value = (value * 2).round().relu()
    gradient, expected = autograd(lambda x: F.max_pool2d(x, **options), value)
    found = pooling.max_pool_backward(
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
        {"kernel_size": (3, 1)},
    ],
    ids=str,
)
def test_average_pool(size: tuple[int, int], options: dict[str, Any]) -> None:
    value = random_source(*size)
    gradient, expected = autograd(lambda x: F.avg_pool2d(x, **options), value)
    found = pooling.avg_pool_backward(
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
    value = random_source(*size)
    gradient, expected = autograd(lambda x: F.adaptive_avg_pool2d(x, grid), value)
    found = pooling.adaptive_avg_pool_backward(gradient, value)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "grid"), [((10, 7), (3, 4)), ((6, 6), (6, 6)), ((12, 9), (4, 3)), ((5, 7), (1, 1))])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_adaptive_max_pool(size: tuple[int, int], grid: tuple[int, int], ties: bool) -> None:
    value = random_source(*size)
    if ties:
        value = (value * 2).round().relu()
    gradient, expected = autograd(lambda x: F.adaptive_max_pool2d(x, grid), value)
    found = pooling.adaptive_max_pool_backward(gradient, value, torch.empty(0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (3, 1, 1), "stride": 1, "padding": (1, 0, 0)},
        {"kernel_size": (2, 3, 2), "ceil_mode": True, "count_include_pad": False},
        {"kernel_size": 2, "stride": 1, "divisor_override": 3},
    ],
    ids=str,
)
def test_average_pool_over_channels_too(options: dict[str, Any]) -> None:
    value = random_source(7, 6, channels=5)[:, None]
    gradient, expected = autograd(lambda x: F.avg_pool3d(x, **options), value)

    def three(name: str, default: list[int]) -> list[int]:
        given = options.get(name, default)
        return [given] if isinstance(given, int) else list(given)

    found = pooling.avg_pool3d_backward(
        gradient,
        value,
        three("kernel_size", []),
        three("stride", []),
        three("padding", [0]),
        options.get("ceil_mode", False),
        options.get("count_include_pad", True),
        options.get("divisor_override"),
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
