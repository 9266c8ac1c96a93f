"""Geometry of windows, and gradients laid over them: by hand and against a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import Graph
from cfcam.export.reverse.core import expose
from cfcam.export.reverse.emitter import Emitter
from cfcam.export.reverse.registry import Context
from cfcam.export.reverse.rules.windows import Windows, is_static, place_windows, read_windows
from onnx import helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def context(size: int | str, kernel: int, **attributes: Any) -> Context:
    """Of a convolution of one channel along one axis."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)
    graph = Graph(make([node], {"w": normal(1, 1, kernel)}, inputs={"x": ["N", 1, size], "g": ["N", 1, "L"]}))
    return Context(Emitter(graph), graph.nodes[0], [], frozenset({0}))


def read(size: int | str, kernel: int, **attributes: Any) -> Windows:
    c = context(size, kernel, **attributes)
    return read_windows(c, c.x(), [kernel])


@pytest.mark.parametrize(
    ("size", "kernel", "attributes", "padding"),
    [
        (7, 3, {}, (0, 0)),
        (7, 3, {"pads": [2, 1]}, (2, 1)),
        (7, 3, {"auto_pad": "VALID"}, (0, 0)),
        # 7 cells, every second: 4 windows of 4 reach over 10 cells, 3 more than there are.
        (7, 4, {"auto_pad": "SAME_UPPER", "strides": [2]}, (1, 2)),
        (7, 4, {"auto_pad": "SAME_LOWER", "strides": [2]}, (2, 1)),
        # 3 windows of one cell, four apart, reach over 9 of 9 cells.
        (9, 1, {"auto_pad": "SAME_UPPER", "strides": [4]}, (0, 0)),
        # At stride 1 the padding is what a window spans, less one, whatever the size: 2 taps, 3 apart.
        ("W", 2, {"auto_pad": "SAME_UPPER", "dilations": [3]}, (1, 2)),
    ],
)
def test_padding_is_written_out(size, kernel: int, attributes: dict[str, Any], padding: tuple[int, int]) -> None:
    windows = read(size, kernel, **attributes)
    assert (windows.before, windows.after) == ([padding[0]], [padding[1]])
    assert windows.padded == (padding != (0, 0))


def test_padding_of_an_unknown_size_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"Conv node 'conv': the input's spatial size .* must be static"):
        read("W", 3, auto_pad="SAME_UPPER", strides=[2])


def test_spans_count_from_the_first_tap_to_the_last() -> None:
    windows = Windows([3, 1, 2], [1, 1, 1], [2, 5, 4], [0, 0, 0], [0, 0, 0])
    assert windows.spans == [5, 1, 5]
    assert windows.count == 3


def test_static_means_numbers_only() -> None:
    assert is_static((2, 3))
    assert not is_static((2, "H"))
    assert not is_static((2, None))


@pytest.mark.parametrize("known", [True, False], ids=["static", "unknown"])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "before", "after"),
    [(3, 1, 1, 0, 0), (3, 2, 1, 1, 1), (2, 3, 1, 0, 0), (2, 2, 3, 1, 2), (2, 1, 1, 2, 3)],
)
@pytest.mark.parametrize("beyond", [0, 1], ids=["inside", "beyond the end"])
def test_gradients_are_laid_over_the_windows_that_made_them(
    known: bool, beyond: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> None:
    """A pooling that rounds up has a last window that reaches beyond the end."""
    size = 8
    windows = Windows([kernel], [stride], [dilation], [before], [after])
    cells = (size + before + after - windows.spans[0]) // stride + 1 + beyond
    c = context(size if known else "W", kernel)
    graph = c.graph
    if known:
        graph.types["g"] = (graph.types["g"][0], ("N", 1, cells))
    placed = place_windows(c, c.e.value("g"), c.x(1), c.x(), windows, 1)
    expose(graph, placed, "placed")
    graph.outputs = [helper.make_tensor_value_info("placed", 1, ["N", 1, None])]
    g, x = normal(2, 1, cells), normal(2, 1, size)
    (found,) = run_ort(graph.to_model(), {"x": x, "g": g})
    weight = graph.constant("w")
    assert weight is not None
    want = np.zeros((2, 1, size))
    for cell in range(cells):
        for tap in range(kernel):
            place = cell * stride + tap * dilation - before
            if 0 <= place < size:
                want[:, :, place] += g[:, :, cell] * weight[0, 0, tap]
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
