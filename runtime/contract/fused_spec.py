"""`FusedSpec`: what a `CamSpec` says of a file that gives out finished maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import SpecError
from .layer_spec import MOST

__all__ = ["FusedSpec"]


@dataclass(frozen=True, kw_only=True)
class FusedSpec:
    """The method is part of the graph, and the finished map an output.

    What the map is made of keeps its names (`LayerSpec.activations`, `LayerSpec.gradients` and so on) as values inside
    the graph that are no outputs. The method and all its settings are `CamSpec.method`.

    form: ``static``, of operators that every runtime has, with sizes that are known beforehand; ``cpu``, for ONNX
    Runtime on CPUs, with sizes from the data. map_size: what was asked for. size: (H, W) of the map.

    Names of outputs, None where there is no such output: map: float32 (N, H, W) in [0, 1]. empty: bool (N,), whether
    the map means nothing (it is then zero). guided: bool (N,), whether the detail layer sharpened the map, which not
    every image lets it. With `CamSpec.columns` these are (N, K, H, W) and (N, K). counts: int64 (N, 4), clusters,
    clustered channels, noise and dead ones. labels: int64 (N, C), the cluster of each channel.
    """

    form: Literal["cpu", "static"] = "static"
    map_size: Literal["input", "detail"] = "input"
    size: tuple[int, int]
    map: str = "cam_map"
    empty: str = "cam_empty"
    guided: str | None = None
    counts: str | None = None
    labels: str | None = None

    def validate(self) -> None:
        if min(self.size) < 1 or self.size[0] * self.size[1] > MOST:
            raise SpecError(
                f"CamSpec fused.size: expected sides of at least 1 and at most {MOST} cells, got "
                f"{self.size[0]}x{self.size[1]}"
            )

    @property
    def by_class(self) -> tuple[str, ...]:
        """Names of the outputs that depend on the class: clusters do not."""
        return tuple(name for name in (self.map, self.empty, self.guided) if name is not None)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that hold the finished map and what is known about it."""
        return tuple(name for name in (self.map, self.empty, self.guided, self.counts, self.labels) if name is not None)
