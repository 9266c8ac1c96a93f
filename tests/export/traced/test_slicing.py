"""Adjoints of slices and selections, against autograd in float64."""

from __future__ import annotations

import pytest
import torch
from adjoints import autograd, random_source
from cfcam.export.traced.slicing import select_backward, slice_backward

END = 2**63 - 1  # what the tracer writes for "to the end"


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, END, 1), (1, END, 1), (0, -1, 1), (-2, END, 1), (0, END, 2), (1, END, 2), (1, 5, 3), (0, END, 20)],
)
def test_slice(dim: int, start: int, end: int, step: int) -> None:
    source = random_source(7, 6, channels=5).transpose(0, 2).contiguous()  # (7, 5, 2, 6)
    stop = None if end == END else end
    rows = torch.arange(source.shape[dim])[start:stop:step]
    gradient, expected = autograd(lambda x: x.index_select(dim % x.dim(), rows), source)
    found = slice_backward(gradient, source.shape, dim, start, end, step)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("dim", "index"), [(0, 0), (1, 2), (-1, -1), (3, 4)])
def test_select(dim: int, index: int) -> None:
    source = random_source(7, 6, channels=5)
    gradient, expected = autograd(lambda x: x.select(dim, index), source)
    torch.testing.assert_close(select_backward(gradient, source.shape, dim, index), expected, rtol=0, atol=0)
