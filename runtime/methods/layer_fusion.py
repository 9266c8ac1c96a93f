"""The maps of several target layers as one.

A late layer knows which object speaks for the class, an earlier one where exactly its parts are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract.spec import CamSpec, LayerSpec
from ..errors import MethodError
from ..inference import LayerTensors
from .base import CamResult, Grouping
from .numerics.resizing import resize, unit_range
from .registry import Method, get_method, make_settings

__all__ = [
    "FUSIONS",
    "OWN_FUSIONS",
    "FileForm",
    "Groupings",
    "check_fusion",
    "check_grid",
    "check_layers",
    "fitting",
    "form_of",
    "fuse_layers",
    "fused_grid",
    "own_form",
    "run_on_layers",
    "run_rule",
    "settings_for",
]

Maps = NDArray[np.float32]

#: Layer -> what clustering did with an image's channels there, which no class changes.
Groupings = dict[str, Grouping]

#: The fusion whose first map is guided by the file's detail layer.
GUIDED = "guided"


def _product(maps: Maps) -> Maps:
    """The first map, weighed by the root of the geometric mean of the others: of two, m1 * sqrt(m2)."""
    others = len(maps) - 1
    return maps[0] * np.prod(maps[1:] ** (0.5 / others), axis=0)


def _gate(maps: Maps) -> Maps:
    """The first map, of which the mean of the others lets 30 to 100 % pass: never nothing, as in a product."""
    return maps[0] * (0.3 + 0.7 * maps[1:].mean(axis=0))


#: Name -> (L, H, W) maps in [0, 1], the first layer's first -> (H, W). `max` is what LayerCAM does (Jiang et al.
#: 2021), but for the tanh by which it lifts the small values of early layers. In `guided` the first layer's map is
#: the one that its detail layer guides; in the others no detail is used.
FUSIONS: dict[str, Callable[[Maps], Maps]] = {
    "gate": _gate,
    "product": _product,
    "mean": lambda maps: maps.mean(axis=0),
    "max": lambda maps: maps.max(axis=0),
    "guided": _gate,
}

#: Fusions that belong to a method (`Method.fusion`), and are not offered for others. In `refine` each map goes from 0
#: to 1: unlike in the others its smallest value becomes zero, as RefineCAM's authors have it.
OWN_FUSIONS: dict[str, Callable[[Maps], Maps]] = {"refine": lambda maps: unit_range(maps).prod(axis=0)}


@dataclass(frozen=True, kw_only=True)
class FileForm:
    """The form in which a method makes its maps of one file, as far as the file and the settings decide it.

    Attributes:
        detail: Name of the detail layer that guides the maps, or None.
        grid: Its (H, W), or None.
        contrast: The share of the rivals' gradient that is taken off the class's, 0 to 1.
    """

    detail: str | None = None
    grid: tuple[int, int] | None = None
    contrast: float = 0.0

    def __str__(self) -> str:
        guide = "not guided" if self.detail is None else f"guided by layer '{self.detail}'"
        return f"{guide}, contrast {self.contrast:g}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"guided": self.detail is not None, "contrast": self.contrast, "detail": self.detail}


def form_of(method: Method, settings: Any, layers: Sequence[LayerSpec], fusion: str) -> FileForm | None:
    """In which form `method` makes its maps of these layers; None for methods that have but one form."""
    if not method.takes_detail:
        return None
    if not _uses_detail(method, layers, fusion):
        return FileForm()
    detail = layers[0].detail if getattr(settings, "guided", True) else None
    contrast = 0.0 if layers[0].rivals is None else float(getattr(settings, "contrast", 0.0))
    if detail is None:
        return FileForm(contrast=contrast)
    return FileForm(detail=detail.name, grid=detail.grid, contrast=contrast)


def own_form(spec: CamSpec) -> FileForm | None:
    """`form_of` the method that the file asks for."""
    method = get_method(spec.method.name)
    return form_of(method, make_settings(method, spec.method.settings), spec.layers, spec.fusion)


def check_fusion(name: str, layers: Sequence[LayerSpec]) -> None:
    """Raise `MethodError` unless there is such a fusion, and something to fuse."""
    if name not in FUSIONS:
        raise MethodError(f"unknown fusion '{name}': expected one of {', '.join(FUSIONS)}")
    if len(layers) < 2:
        raise MethodError(
            f"fusion '{name}': there is one layer only, '{layers[0].name}'; export the model with several --layer to "
            "have maps that can be fused"
        )
    if name == GUIDED and layers[0].detail is None:
        raise MethodError(
            f"fusion '{name}': layer '{layers[0].name}' has no detail layer; export the model with --detail auto"
        )


def check_layers(method: Method, layers: Sequence[LayerSpec]) -> None:
    """Raise `MethodError` where a method needs several layers and there is one, or a grid is too fine for it."""
    if method.fusion is not None and len(layers) < 2:
        raise MethodError(
            f"method '{method.name}' makes one map of several layers' maps, and there is one layer only, "
            f"'{layers[0].name}': export the model with several --layer, or take another method"
        )
    for layer in layers:
        check_grid(method, layer.grid, f"layer '{layer.name}'")


def check_grid(method: Method, grid: tuple[int, int], whose: str) -> None:
    """Raise `MethodError` where a grid (h, w) is too fine for a method."""
    if method.most_cells is not None and grid[0] * grid[1] > method.most_cells:
        raise MethodError(
            f"method '{method.name}' takes layers of at most {method.most_cells} cells, and {whose} has "
            f"{grid[0]}x{grid[1]}: take a later layer, or another method"
        )


def fitting(names: Sequence[str], layers: Sequence[LayerSpec]) -> list[str]:
    """Those of the methods called `names` that `check_layers` lets pass; a probe works with the first layer."""
    fit: list[str] = []
    for name in names:
        method = get_method(name)
        try:
            check_layers(method, layers if method.kind == "rule" else layers[:1])
        except MethodError:
            continue
        fit.append(name)
    return fit


def settings_for(settings: Any, layer: LayerSpec) -> Any:
    """A method's settings for one layer: where nobody says whether it feeds a pooling, the layer's spec does.

    This is the one place that hands it to a rule. Not left to the gradients, which are not constant once there is
    noise.
    """
    if getattr(settings, "last", False) is None:
        return dataclasses.replace(settings, last=layer.pooled)
    return settings


def run_on_layers(
    method: Method,
    settings: Any,
    layers: Sequence[LayerSpec],
    tensors: Sequence[LayerTensors],
    row: int,
    fusion: str,
    groupings: Groupings | None = None,
) -> list[CamResult]:
    """A rule's result on every layer, with the layer's own settings.

    The first layer's detail and rivals are used where the rule takes them and there is one layer, or the fusion is
    `GUIDED`. row: the image among those of `tensors`, which has an entry for each of `layers`. groupings: of the same
    image, which are used where they are there and filled in where they are not.
    """
    results: list[CamResult] = []
    taken = _uses_detail(method, layers, fusion)
    for layer, found in zip(layers, tensors, strict=True):
        both = {"detail": found.detail, "rivals": found.rivals}
        more: dict[str, Any] = {name: value[row] for name, value in both.items() if taken and value is not None}
        if method.takes_grouping and groupings is not None:
            more["grouping"] = groupings.get(layer.name)
        results.append(method.run(found.activations[row], found.gradients[row], settings_for(settings, layer), **more))
        grouping = results[-1].grouping
        if groupings is not None and grouping is not None:
            groupings[layer.name] = grouping
    return results


def _uses_detail(method: Method, layers: Sequence[LayerSpec], fusion: str) -> bool:
    return method.takes_detail and (len(layers) == 1 or fusion == GUIDED)


def run_rule(
    method: Method,
    settings: Any,
    layers: Sequence[LayerSpec],
    tensors: Sequence[LayerTensors],
    row: int,
    fusion: str,
    groupings: Groupings | None = None,
) -> CamResult:
    """A rule on one image: on every layer with its own settings, and the maps fused where there are several.

    row: the image among those of `tensors`. fusion: a key of `FUSIONS`, for methods that have none of their own.
    groupings: see `run_on_layers`.
    """
    results = run_on_layers(method, settings, layers, tensors, row, fusion, groupings)
    names = [layer.name for layer in layers]
    return results[0] if len(results) == 1 else fuse_layers(results, method.fusion or fusion, names)


def fused_grid(grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The finest of some grids (H, W)."""
    return max(height for height, _ in grids), max(width for _, width in grids)


def fuse_layers(results: Sequence[CamResult], fusion: str, names: Sequence[str]) -> CamResult:
    """One result from those of two or more layers, the first layer's first.

    Each map is resized to the finest grid (bilinear, half-pixel centres) and divided by its maximum; what
    then becomes of them is `FUSIONS[fusion]` (or `OWN_FUSIONS`). An empty map is zero everywhere, which makes a product
    empty. The grouping is the first layer's. names: of the layers.
    """
    size = fused_grid([(one.map.shape[0], one.map.shape[1]) for one in results])
    fused = {**FUSIONS, **OWN_FUSIONS}[fusion](np.stack([_scaled(one.map, size) for one in results]))
    empty = None
    if not fused.any():
        reasons = [f"layer '{name}': {one.empty}" for name, one in zip(names, results, strict=True) if one.empty]
        empty = reasons[0] if reasons else "the maps of the layers are nowhere positive together"
    return CamResult(fused.astype(np.float32, copy=False), results[0].grouping, empty, results[0].form)


def _scaled(values: Maps, size: tuple[int, int]) -> Maps:
    top = values.max()
    if not top > 0:
        return np.zeros(size, np.float32)
    # Dividing first keeps the resize away from the ends of float32.
    resized = resize((values / top)[None], size)[0]
    return np.clip(resized / resized.max(), 0, 1)
