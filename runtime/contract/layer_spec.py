"""`LayerSpec` and `DetailSpec`: what a `CamSpec` says of the values of which maps are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import SpecError

__all__ = ["MOST", "DetailSpec", "LayerSpec"]

#: Classes, channels and cells of a grid: more is a number that went wrong, and would take all memory.
MOST = 2**24


@dataclass(frozen=True, kw_only=True)
class DetailSpec:
    """The detail layer: a finer value whose activations sharpen the map; no gradient is taken there.

    name, value, layout, channels, grid, prefix_tokens: as in `LayerSpec`. why: the reason why it was chosen.
    activations: name of the output, (N, C, H, W).
    """

    name: str
    value: str
    layout: Literal["NCHW", "NHWC", "NTC"] = "NCHW"
    channels: int
    grid: tuple[int, int]
    prefix_tokens: int = 0
    why: str = ""
    activations: str = "cam_detail"

    def as_layer(self) -> LayerSpec:
        """The same value as a target layer would be described."""
        return LayerSpec(
            name=self.name,
            value=self.value,
            layout=self.layout,
            channels=self.channels,
            grid=self.grid,
            prefix_tokens=self.prefix_tokens,
            activations=self.activations,
        )


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One target layer.

    name: what the user calls it (``layer4.2``, ``_swish:1``). value: the name of that
    value in the graph. layout: how the model itself holds it; what leaves the file is
    always (N, C, H, W). grid: its (H, W). pooled: True when this is the value that enters
    the last global pooling, so that its gradient is constant over the grid.
    activations, gradients: names of the outputs. prefix_tokens: class and register tokens
    that were set aside (token layouts only). assumed: the layout could not be followed from the
    image when the file was made, and is what the value's shape looks like. detail: the detail layer.
    rivals: name of the output that holds the gradient of the logsumexp of the other classes' logits,
    (N, C, 1, 1). Both since schema 1.3, of the first layer at most, and None where there is none.
    """

    name: str
    value: str
    layout: Literal["NCHW", "NHWC", "NTC"] = "NCHW"
    channels: int
    grid: tuple[int, int]
    pooled: bool = False
    prefix_tokens: int = 0
    activations: str = "cam_activations"
    gradients: str = "cam_gradients"
    detail: DetailSpec | None = None
    rivals: str | None = None
    assumed: bool = False

    def validate(self) -> None:
        if self.channels < 1 or min(self.grid) < 1:
            raise SpecError(f"CamSpec layer '{self.name}': channels and grid must be positive")
        if self.channels > MOST or self.grid[0] * self.grid[1] > MOST:
            raise SpecError(
                f"CamSpec layer '{self.name}': expected at most {MOST} channels and cells, got {self.channels} and "
                f"{self.grid[0]}x{self.grid[1]}"
            )
        if self.prefix_tokens < 0:
            raise SpecError(f"CamSpec layer '{self.name}': prefix_tokens: expected 0 or more, got {self.prefix_tokens}")
        if self.detail is not None:
            self.detail.as_layer().validate()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the exporter added for this layer."""
        detail = () if self.detail is None else (self.detail.activations,)
        return (self.activations, self.gradients, *detail, *(() if self.rivals is None else (self.rivals,)))
