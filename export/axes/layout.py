"""How a value holds its grid, and how it leaves the file: always as (N, C, H, W).

Convolutions keep (N, C, H, W); many transformers keep (N, H, W, C), or tokens (N, T, C) in
which T runs over the grid, behind class and register tokens that belong to no place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the ONNX route, which has no PyTorch, names layouts too
    import torch

__all__ = ["NCHW", "Digit", "Layout", "raster"]


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

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(C, H, W) of a value with the sizes `shape` (without the batch)."""
        if self.kind == "NCHW":
            return (shape[0], shape[1], shape[2])
        if self.kind == "NHWC":
            return (shape[2], shape[0], shape[1])
        sizes = {"H": 1, "W": 1}
        for digit in self.digits:
            sizes[digit.axis] *= digit.size
        return (shape[1], sizes["H"], sizes["W"])

    def to_nchw(self, value: torch.Tensor) -> torch.Tensor:
        """The value (N, ...) as (N, C, H, W), without the tokens that have no place."""
        if self.kind == "NCHW":
            return value
        if self.kind == "NHWC":
            return value.permute(0, 3, 1, 2)
        channels, height, width = self.grid((value.shape[1], value.shape[2]))
        if self.prefix or self.suffix:
            value = value[:, self.prefix : self.prefix + height * width]
        order = sorted(range(len(self.digits)), key=lambda i: (self.digits[i].axis, -self.digits[i].stride))
        tokens = value.transpose(1, 2)
        if order == sorted(order):
            return tokens.reshape(value.shape[0], channels, height, width)
        apart = tokens.reshape(value.shape[0], channels, *(digit.size for digit in self.digits))
        return apart.permute(0, 1, *(2 + i for i in order)).reshape(value.shape[0], channels, height, width)


#: What convolutions use.
NCHW = Layout()


def raster(height: int, width: int, tokens: int) -> Layout | None:
    """Tokens in reading order behind a prefix, or None when there are too few of them."""
    prefix = tokens - height * width
    if prefix < 0:
        return None
    return Layout("NTC", prefix, (Digit("H", 1, height), Digit("W", 1, width)))
