"""How a value holds its grid, and how it leaves the file: always as (N, C, H, W).

Convolutions keep (N, C, H, W); many transformers keep (N, H, W, C), or tokens (N, T, C) in
which T runs over the grid, behind class and register tokens that belong to no place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["NCHW", "Digit", "Layout", "in_order", "raster"]


@dataclass(frozen=True)
class Digit:
    """A part of a token's index that counts rows ("H") or columns ("W").

    The row of a token is the sum over its "H" digits of ``digit * stride``. Raster order has
    one digit for each; models that sort tokens into windows have more.
    """

    axis: Literal["H", "W"]
    stride: int
    size: int


@dataclass(frozen=True)
class Layout:
    """kind: as in `LayerSpec.layout`. prefix: tokens before the grid's, which are set aside.

    digits: for "NTC", the token index from its most significant digit on. suffix: tokens
    behind the grid's.
    """

    kind: Literal["NCHW", "NHWC", "NTC"] = "NCHW"
    prefix: int = 0
    digits: tuple[Digit, ...] = ()
    suffix: int = 0

    @property
    def grid_axes(self) -> tuple[int, ...]:
        """Axes of the value that run over the grid."""
        return {"NCHW": (2, 3), "NHWC": (1, 2), "NTC": (1,)}[self.kind]

    def grid(self, shape: Sequence[Any]) -> tuple[Any, Any, Any]:
        """(C, H, W) of a value with the sizes `shape` (without the batch)."""
        if self.kind == "NCHW":
            return (shape[0], shape[1], shape[2])
        if self.kind == "NHWC":
            return (shape[2], shape[0], shape[1])
        sizes = {axis: math.prod(digit.size for digit in self.digits if digit.axis == axis) for axis in "HW"}
        return (shape[1], sizes["H"], sizes["W"])

    @property
    def order(self) -> list[int]:
        """The digits by what they count: those of rows first, each kind from the most significant on."""
        return sorted(range(len(self.digits)), key=lambda i: (self.digits[i].axis, -self.digits[i].stride))

    def places(self, shape: Sequence[int]) -> NDArray[np.int64]:
        """Where each cell lies in one image's flattened value of sizes `shape`: int64 (C, H, W)."""
        number = np.arange(math.prod(shape)).reshape(*shape)
        if self.kind == "NCHW":
            return number
        if self.kind == "NHWC":
            return number.transpose(2, 0, 1)
        channels, height, width = self.grid(shape)
        cells = number[self.prefix : self.prefix + height * width].T
        apart = cells.reshape(channels, *(digit.size for digit in self.digits))
        return apart.transpose(0, *(1 + i for i in self.order)).reshape(channels, height, width)

    def to_nchw(self, value: Any) -> Any:
        """An array or tensor (N, ...) as (N, C, H, W), without the tokens that have no place."""
        return value.reshape(len(value), -1)[:, self.places(value.shape[1:])]


#: What convolutions use.
NCHW = Layout()


def raster(height: int, width: int, tokens: int) -> Layout | None:
    """Tokens in reading order behind a prefix, or None when there are too few of them."""
    prefix = tokens - height * width
    return None if prefix < 0 else in_order(height, width, prefix)


def in_order(height: int, width: int, prefix: int = 0) -> Layout:
    """`prefix` tokens without a place, then those of a grid in reading order."""
    return Layout("NTC", prefix, (Digit("H", 1, height), Digit("W", 1, width)))
