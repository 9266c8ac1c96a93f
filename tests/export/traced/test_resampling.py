"""Resizing and padding: adjoints against autograd in float64, other forms against PyTorch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adjoints import autograd, random_source
from cfcam.export.traced import resampling
from torch.nn import functional as F

aten = torch.ops.aten

SIZES = [(9, 9), (10, 7)]
# To the doubled size, to no whole multiple, to less.
GRIDS = [None, (13, 21), (5, 6)]


def expected_adjoint(value: torch.Tensor, grid: tuple[int, int] | None, **options: Any) -> Any:
    target: dict[str, Any] = {"scale_factor": 2.0} if grid is None else {"size": grid}
    return autograd(lambda x: F.interpolate(x, **target, **options), value)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest(size: tuple[int, int], grid: tuple[int, int] | None, mode: str) -> None:
    operator = aten.upsample_nearest2d if mode == "nearest" else aten._upsample_nearest_exact2d
    value = random_source(*size)
    gradient, expected = expected_adjoint(value, grid, mode=mode)
    scales = (2.0, 2.0) if grid is None else (None, None)
    found = resampling.nearest_backward(operator)(gradient, gradient.shape[2:], value.shape, *scales)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("align_corners", [False, True], ids=["half_pixel", "align_corners"])
@pytest.mark.parametrize("antialias", [False, True], ids=["plain", "antialias"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resize(
    size: tuple[int, int], grid: tuple[int, int] | None, align_corners: bool, antialias: bool, mode: str
) -> None:
    operator = getattr(aten, f"_upsample_{mode}2d_aa" if antialias else f"upsample_{mode}2d")
    value = random_source(*size)
    gradient, expected = expected_adjoint(value, grid, mode=mode, align_corners=align_corners, antialias=antialias)
    scales = (2.0, 2.0) if grid is None else (None, None)
    found = resampling.resize_backward(operator)(gradient, gradient.shape[2:], value.shape, align_corners, *scales)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", [(1, 2, 3, 0), (0, 0, 2, 1), (4, 1)], ids=str)
@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_pads(padding: tuple[int, ...], mode: Any) -> None:
    value = random_source(6, 7)
    if len(padding) == 2:
        value = value[0]
    gradient, expected = autograd(lambda x: F.pad(x, padding, mode=mode), value)
    found = resampling.pad_backward(mode)(gradient, value, padding)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", [(1, 2, 3, 0), (0, 0, 2, 6), (-1, 2, 1, -2), (7, 7)], ids=str)
def test_circular_pad(padding: tuple[int, ...]) -> None:
    value = random_source(6, 7)
    if len(padding) == 2:
        value = value[0]
    assert torch.equal(resampling.circular_pad(value, padding), F.pad(value, padding, mode="circular"))


@pytest.mark.parametrize("target", [{"scale_factor": 1.7}, {"size": (13, 5)}], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_resize_with_sizes(target: dict[str, Any], mode: str) -> None:
    """The form that is traced in place of `operator.vec` is the same resize."""
    value = random_source(9, 7)
    operator = getattr(aten, f"upsample_{mode}2d")
    factors = [target["scale_factor"]] * 2 if "scale_factor" in target else None
    options = () if mode == "nearest" else (False,)
    found = resampling.resize(operator)(value, target.get("size"), *options, factors)
    assert torch.equal(found, F.interpolate(value, **target, mode=mode))
