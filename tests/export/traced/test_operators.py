"""Operators between the layer and the score, in every form that people use, against autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tail_gradients import Operator, assert_same, operator_gradients
from torch import Tensor


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


FEW, MANY, SHARED = drawn(6, 2, 3, 3), drawn(4, 6, 3, 3), drawn(4, 3, 3, 3)
GRID, WHOLE = drawn(12, 12), drawn(6, 12, 12)


def check(operators: Mapping[str, Operator], layer: Tensor) -> None:
    wrong = {}
    for name, (passes, autograd) in operator_gradients(operators, layer).items():
        try:
            assert_same(passes, autograd)
        except AssertionError as error:
            wrong[name] = str(error)
    assert not wrong


def forms(function: Any, options: list[dict[str, Any]]) -> dict[str, Operator]:
    """One operator for each set of options."""
    return {str(given): (lambda x, given=given: function(x, **given)) for given in options}


OPERATORS: dict[str, Operator] = {
    "max pool 1d": lambda x: F.max_pool1d(x.flatten(2), 4),
    "average pool over channels": lambda x: F.avg_pool3d(x[:, None], (3, 1, 1), 1, (1, 0, 0)),
    "average pool of volumes": lambda x: F.avg_pool3d(x[:, None], (2, 3, 2), ceil_mode=True, count_include_pad=False),
    "constant pad": lambda x: F.pad(x, (1, -2, 2, 1), value=2.0),
    "instance norm": lambda x: F.instance_norm(x),
    "group norm": lambda x: F.group_norm(x, 3),
    "local response norm": lambda x: F.local_response_norm(x, 3),
    "rms norm": lambda x: F.rms_norm(x, (12,)),
    "layer norm": lambda x: F.layer_norm(x, (12,), eps=1e-3),
    "layer norm over the grid": lambda x: F.layer_norm(x, (12, 12), GRID, -GRID.T, 1e-3),
    "layer norm over everything": lambda x: F.layer_norm(x, (6, 12, 12), WHOLE),
    "prelu": lambda x: F.prelu(x - 0.5, x.new_full((6,), 0.25)),
    "glu": lambda x: F.glu(x, 1),
    "log sigmoid": F.logsigmoid,
    "transposed convolution": lambda x: F.conv_transpose2d(x, x.new_ones(6, 2, 3, 3), stride=2),
    "transposed convolution, padded": lambda x: F.conv_transpose2d(x, FEW, stride=2, padding=1, output_padding=1),
    "convolution": lambda x: F.conv2d(x, MANY, stride=2, padding=1),
    "convolution, dilated": lambda x: F.conv2d(x, MANY, stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "convolution, groups": lambda x: F.conv2d(x, SHARED, stride=3, groups=2),
    "index": lambda x: x[:, [2, 0, 1, 4, 4]],
    "index of an axis": lambda x: x.index_select(2, torch.tensor([3, 1, 1, 5])),
    "indices of two axes": lambda x: x[:, [2, 0, 1], [3, 3, 4]],
    "maximum over channels": lambda x: x.amax(1),
    "softmax": lambda x: x.softmax(1),
    "roll": lambda x: torch.roll(x, (-2, 3), (2, 3)),
    "flip": lambda x: x.flip(3),
    "pixel shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2),
    "unfold": lambda x: F.unfold(x, 3, stride=2),
    "norm": lambda x: F.normalize(x, dim=1),
    "hard sigmoid": lambda x: F.hardsigmoid(x * 4),
    "hard swish": lambda x: F.hardswish(x * 4),
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "mish": F.mish,
    "softplus": F.softplus,
    "silu": F.silu,
}


def test_table() -> None:
    check(OPERATORS, drawn(2, 6, 12, 12))


MAX_POOLS = [
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": (2, 1), "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": (3, 1), "stride": (3, 1)},
]
AVERAGE_POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    {"kernel_size": (2, 3), "stride": (2, 2), "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": (3, 1)},
]


SIZES = [(10, 7), (12, 13)]
TIES = pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])


def layer_of(size: tuple[int, int], ties: bool = False) -> Tensor:
    layer = drawn(2, 3, *size)
    # Whole windows are zero after a ReLU; coarse rounding makes ties above zero too.
    return (layer * 2).round().relu() if ties else layer


@TIES
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_max_pools(size: tuple[int, int], ties: bool) -> None:
    check(forms(F.max_pool2d, MAX_POOLS), layer_of(size, ties))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_average_pools(size: tuple[int, int]) -> None:
    check(forms(F.avg_pool2d, AVERAGE_POOLS), layer_of(size))


ADAPTIVE = [((10, 7), [(3, 4), (5, 7), (1, 1)]), ((12, 9), [(4, 3), (12, 9), (5, 6)]), ((13, 13), [(6, 6)])]


@TIES
@pytest.mark.parametrize(("size", "grids"), ADAPTIVE, ids=str)
def test_adaptive_pools(size: tuple[int, int], grids: list[tuple[int, int]], ties: bool) -> None:
    options = [{"output_size": grid} for grid in grids]
    average = {f"average {name}": pool for name, pool in forms(F.adaptive_avg_pool2d, options).items()}
    # To a size that does not divide the grid, PyTorch's converter has no form of a maximum.
    even = [given for given in options if all(a % b == 0 for a, b in zip(size, given["output_size"], strict=True))]
    check({**average, **forms(F.adaptive_max_pool2d, even)}, layer_of(size, ties))


RESIZES: list[dict[str, Any]] = [
    {"mode": "nearest"},
    {"mode": "nearest-exact"},
    {"mode": "area"},
    *(
        # With both corners aligned and smoothing the converter's form gives other values: such a model is refused.
        {"mode": mode, "align_corners": aligned, "antialias": antialias}
        for mode in ("bilinear", "bicubic")
        for aligned, antialias in ((False, False), (False, True), (True, False))
    ),
]


@pytest.mark.parametrize("target", [{"scale_factor": 2.0}, {"size": (13, 21)}, {"size": (5, 6)}], ids=str)
def test_resizes(target: dict[str, Any]) -> None:
    """To the doubled size, to no whole multiple, to less."""
    check(forms(F.interpolate, [{**target, **options} for options in RESIZES]), layer_of((10, 7)))


def test_resizes_by_a_broken_factor() -> None:
    modes = [{"mode": mode, "scale_factor": 1.75} for mode in ("nearest", "bilinear", "bicubic")]
    check(forms(F.interpolate, modes), layer_of((9, 7)))


PADS = {
    "reflect": [(1, 2, 3, 0), (0, 0, 2, 1), (4, 1, 0, 0)],
    "replicate": [(1, 2, 3, 0), (0, 0, 2, 1), (4, 1, 0, 0)],
    "circular": [(1, 2, 3, 0), (0, 0, 2, 6), (7, 7, 0, 0)],
    "constant": [(1, 2, 3, 0), (-1, 2, 1, -2)],
}


@pytest.mark.parametrize("mode", PADS)
def test_pads(mode: str) -> None:
    pads = forms(F.pad, [{"pad": pad, "mode": mode} for pad in PADS[mode]])
    # Of one axis alone, where there are three.
    lines = {f"{mode} of lines": lambda x: F.pad(x.flatten(1, 2), (3, 1), mode=mode)}  # type: ignore[arg-type]
    check({**pads, **lines}, layer_of((6, 7)))


SLICES = [
    slice(None),
    slice(1, None),
    slice(0, -1),
    slice(-2, None),
    slice(None, None, 2),
    slice(1, None, 2),
    slice(1, 5, 3),
    slice(0, None, 20),
]


def test_slices() -> None:
    """Of each axis, and single places of it."""
    chosen: dict[str, Operator] = {}
    for axis in (1, 2, 3):
        for part in [*SLICES, 0, 2, -1]:
            where = (*[slice(None)] * axis, part)
            chosen[f"axis {axis}: {part}"] = lambda x, where=where: x[where]
    check(chosen, layer_of((7, 6)))
