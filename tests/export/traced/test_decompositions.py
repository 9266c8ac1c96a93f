"""The adjoints of convolutions, against autograd in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adjoints import autograd, pair, random_source
from cfcam.export.traced import decompositions
from torch.nn import functional as F

SIZES = [(9, 9), (10, 7), (12, 13)]


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
    value = random_source(*size, channels=4)
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
    value = random_source(6, 5, channels=4)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    gradient, expected = autograd(lambda x: F.conv_transpose2d(x, weight, stride=2, padding=1, output_padding=1), value)
    found, _, _ = decompositions._convolution_backward(
        gradient, value, weight, None, [2, 2], [1, 1], [1, 1], True, [1, 1], 1, [True, False, False]
    )
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
