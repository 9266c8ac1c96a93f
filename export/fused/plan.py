"""What a fused file is to compute: the method with its settings for one layer, the form, and the sizes; or why not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...runtime.contract.spec import CamSpec
from ...runtime.methods import get_method, make_settings
from ...runtime.methods.cfcam.method import CfcamSettings
from ...runtime.methods.layer_fusion import settings_for
from ..errors import ExportError

__all__ = ["FUSED_METHODS", "MOST_CLUSTERED", "Form", "FusedPlan", "MapSize", "plan_fused", "stated_settings"]

Form = Literal["static", "cpu"]
MapSize = Literal["input", "detail"]

#: Methods that can be written into a graph.
FUSED_METHODS = ("cfcam", "gradcam", "hirescam", "layercam")

#: Channels that a form can compare with one another: TensorRT's TopK ends at 3840; tables of 8192 x 8192 take 256 MiB
#: each, and there are several.
MOST_CLUSTERED: dict[Form, int] = {"static": 3840, "cpu": 8192}


@dataclass(frozen=True, kw_only=True)
class FusedPlan:
    """What is written into the graph.

    Attributes:
        form: ``static``, of operators that every runtime has, with sizes that are known beforehand; ``cpu``, image by
            image, with sizes from the data.
        method: One of `FUSED_METHODS`.
        settings: Of `cfcam`, with `last` decided; None for methods without settings.
        channels: Of the target layer.
        grid: Its (h, w).
        detail: (channels, h, w) of the detail layer where that guides the map, or None.
        rivals: Whether the rivals' gradient is taken off.
        map_size: What was asked for, ``input`` or ``detail``.
        size: (H, W) of the map.
        labels: Whether the clusters of the channels are an output.
    """

    form: Form
    method: str
    settings: CfcamSettings | None
    channels: int
    grid: tuple[int, int]
    detail: tuple[int, int, int] | None
    rivals: bool
    map_size: MapSize
    size: tuple[int, int]
    labels: bool

    @property
    def clustered(self) -> int:
        """How many channels are compared with one another, at most."""
        most = None if self.settings is None else self.settings.most_clustered
        return self.channels if most is None else min(self.channels, most)


def plan_fused(
    spec: CamSpec,
    form: Form = "static",
    *,
    map_size: MapSize = "input",
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    labels: bool = False,
) -> FusedPlan:
    """What a file with this spec is to compute.

    Args:
        spec: Of the file with activations and gradients.
        form: As in `FusedPlan`.
        map_size: ``input`` for maps as large as the model's input, ``detail`` for the finest grid that they have.
        method: One of `FUSED_METHODS`; None for the one that the spec asks for.
        settings: What differs from the method's defaults; None for what the spec asks for, if the method is its own.
        labels: Whether the clusters of the channels become an output.

    Returns:
        The plan.

    Raises:
        ExportError: The method cannot be written into a graph, or the layer is too large for the form.
        MethodError: There is no such method or setting.
    """
    name = spec.method.name if method is None else method
    known = get_method(name)
    if name not in FUSED_METHODS:
        why = (
            "it runs the model again and again" if known.kind == "probe" else "its arithmetic is not written for graphs"
        )
        raise ExportError(
            f"--fused: method '{name}' cannot be part of the file: {why}; fuse one of {', '.join(FUSED_METHODS)}, or "
            "export without --fused and let the host run it"
        )
    if len(spec.layers) > 1:
        raise ExportError(
            f"--fused: the file has {len(spec.layers)} target layers, and a fused file has one: give one --layer, or "
            "export without --fused"
        )
    if settings is None and name == spec.method.name:
        settings = spec.method.settings
    layer = spec.layer
    chosen = settings_for(make_settings(known, settings), layer)
    detail, rivals = None, False
    if isinstance(chosen, CfcamSettings):
        if chosen.clustering != "dbscan":
            raise ExportError(
                f"--fused: clustering '{chosen.clustering}' is a control for experiments and is not written into "
                "graphs: leave the setting out, or export without --fused"
            )
        if chosen.guided and layer.detail is not None:
            detail = (layer.detail.channels, *layer.detail.grid)
        rivals = layer.rivals is not None and chosen.contrast > 0
        _check_channels(layer.channels, chosen, form)
    finest = layer.grid if detail is None else detail[1:]
    size = (spec.input.height, spec.input.width) if map_size == "input" else finest
    if any(side < cells for side, cells in zip(size, finest, strict=True)):
        raise ExportError(
            f"--fused: the map's own grid of {finest[0]}x{finest[1]} is finer than the input of {size[0]}x{size[1]}: "
            "give --map-size detail"
        )
    return FusedPlan(
        form=form,
        method=name,
        settings=chosen,
        channels=layer.channels,
        grid=layer.grid,
        detail=detail,
        rivals=rivals,
        map_size=map_size,
        size=size,
        labels=labels and chosen is not None,
    )


def _check_channels(channels: int, settings: CfcamSettings, form: Form) -> None:
    """Raise `ExportError` where more channels would be compared than the form can, or none could ever be clustered."""
    limit = MOST_CLUSTERED[form]
    compared = channels if settings.most_clustered is None else min(channels, settings.most_clustered)
    if compared > limit:
        raise ExportError(
            f"--fused: {compared} channels would be compared with one another, and form '{form}' can do {limit}: give "
            f"--settings '{{\"most_clustered\": {limit}}}' or fewer (the default is 512), "
            f"{'--fused-form cpu, ' if compared <= MOST_CLUSTERED['cpu'] else ''}or export without --fused"
        )
    if settings.min_samples > compared:
        raise ExportError(
            f"--fused: min_samples {settings.min_samples} makes every one of the {compared} channels that are compared "
            "noise: give a smaller one with --settings, or --method gradcam"
        )


def stated_settings(plan: FusedPlan) -> dict[str, Any]:
    """All settings that are written into the graph, by name."""
    return {} if plan.settings is None else dataclasses.asdict(plan.settings)
