"""The rows of the table: methods, and maps that explain nothing, all asked in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.errors import MethodError
from ...runtime.inference import LayerTensors
from ...runtime.methods import get_method
from ...runtime.methods.cfcam.filtering import gaussian
from ..measures.access import EngineAccess
from ..measures.base import Explain, Images, Maps
from ..measures.baselines import CentreGaussian, Edges, Random, Uniform
from ..measures.noise import Rule
from .shared import SharedEngine

__all__ = ["BASELINES", "CONTROLS", "DEFAULT_BASELINES", "Row", "make_rows"]

Classes = NDArray[np.int64]
Kind = Literal["method", "baseline"]

#: Name -> what it is; `make_rows` builds them.
BASELINES = {
    "centre": "a Gaussian around the middle of the image",
    "uniform": "the same everywhere",
    "random": "random values on the layer's grid",
    "edges": "edges of the photo, blurred",
    "class_blind": "mean size of the layer's activations, whatever the class",
    "blurred": "the first method's map, blurred by one cell",
    "sharpened": "the first method's map, squared",
}
#: For measures that reward blur (mosaics) or sharpening (energy inside): what that alone would gain.
CONTROLS = ("blurred", "sharpened")
DEFAULT_BASELINES = ("centre", "uniform", "random", "edges", "class_blind")


class Row:
    """One line of the table, a method or a baseline: an `Explain` by name.

    make: the `Explain` for a photo's seed. rule: for methods that need nothing but arrays, else None.
    shares: whether `explain` takes its arrays from the shared engine, and so costs an inference that is not its own.
    without_contrast: the same at contrast 0, or None where it has none.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        make: Callable[[int], Explain],
        *,
        rule: Rule | None = None,
        shares: bool = False,
        without_contrast: Explain | None = None,
    ) -> None:
        self.name, self.rule, self.shares, self.without_contrast = name, rule, shares, without_contrast
        self.kind: Kind = kind
        self._make = make
        self._explain = make(0)

    def begin(self, seed: int) -> None:
        """A new photo comes; what is random starts from `seed`, so that the order of photos cannot matter."""
        self._explain = self._make(seed)

    def explain(self, images: Images, classes: Classes) -> Maps:
        """Maps (N, H, W) in [0, 1]: an `Explain`."""
        return self._explain(images, classes)


def make_rows(engine: SharedEngine, methods: Sequence[str], baselines: Sequence[str]) -> list[Row]:
    """A row for each of `methods` (registered names), then of `baselines` (keys of `BASELINES`).

    Raises `MethodError` for unknown names, and what `EngineAccess` raises for a probe whose tail is missing.
    """
    rows: list[Row] = [_method(engine, name) for name in methods]
    return rows + [_baseline(engine, name, rows[0]) for name in baselines]


def _method(engine: SharedEngine, name: str) -> Row:
    access = EngineAccess(engine.explainer, name)
    plain = access.without_contrast()
    if get_method(access.method).kind == "rule":
        plain_explain = None if plain is access else _explain_by(plain.rule, engine)
        return _from_arrays(access.method, "method", access.rule, engine, plain_explain)
    plain_explain = None if plain is access else plain.explain
    return Row(access.method, "method", lambda _seed: access.explain, without_contrast=plain_explain)


def _baseline(engine: SharedEngine, name: str, first: Row) -> Row:
    grid = engine.explainer.spec.layer.grid
    height = engine.explainer.spec.input.height
    plain: dict[str, Callable[[int], Explain]] = {
        "centre": lambda _: CentreGaussian(),
        "uniform": lambda _: Uniform(),
        "random": lambda seed: Random(grid, seed),
        "edges": lambda _: Edges(),
    }
    controls: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "blurred": lambda heat: gaussian(heat[None], height / grid[0])[0],
        "sharpened": lambda heat: heat**2,
    }
    if name == "class_blind":
        return _from_arrays(name, "baseline", _class_blind, engine)
    if name in controls:
        change, without = controls[name], first.without_contrast
        plain_explain = None if without is None else _changed(without, change)
        changed = _changed(first.explain, change)
        return Row(name, "baseline", lambda _: changed, shares=first.shares, without_contrast=plain_explain)
    if name not in plain:
        raise MethodError(f"unknown baseline '{name}': expected some of {', '.join(BASELINES)}")
    return Row(name, "baseline", plain[name])


def _from_arrays(
    name: str, kind: Kind, rule: Rule, engine: SharedEngine, without_contrast: Explain | None = None
) -> Row:
    """A rule: the layers' tensors come from the shared engine."""
    explain = _explain_by(rule, engine)
    return Row(name, kind, lambda _seed: explain, rule=rule, shares=True, without_contrast=without_contrast)


def _explain_by(rule: Rule, engine: SharedEngine) -> Explain:
    def explain(images: Images, classes: Classes) -> Maps:
        arrays = engine.arrays(images, classes)
        size = (int(images.shape[2]), int(images.shape[3]))
        return np.stack([normalise(heat, size) for heat in rule(arrays.layers)])

    return explain


def _class_blind(layers: Sequence[LayerTensors]) -> list[NDArray[np.float32]]:
    return list(np.abs(layers[0].activations).mean(axis=1))


def _changed(original: Explain, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Explain:
    def explain(images: Images, classes: Classes) -> Maps:
        maps = original(images, classes)
        return np.stack([normalise(np.maximum(change(heat), 0).astype(np.float32)) for heat in maps])

    return explain
