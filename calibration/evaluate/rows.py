"""The rows of the table: methods, and maps that explain nothing, all asked in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.errors import MethodError
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
    """

    def __init__(
        self, name: str, kind: Kind, make: Callable[[int], Explain], *, rule: Rule | None = None, shares: bool = False
    ) -> None:
        self.name, self.rule, self.shares = name, rule, shares
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
    if get_method(access.method).kind == "rule":
        return _from_arrays(access.method, "method", access.rule, engine)
    return Row(access.method, "method", lambda _seed: access.explain)


def _baseline(engine: SharedEngine, name: str, first: Row) -> Row:
    grid = engine.explainer.spec.layer.grid
    height = engine.explainer.spec.input.height
    plain: dict[str, Callable[[int], Explain]] = {
        "centre": lambda _: CentreGaussian(),
        "uniform": lambda _: Uniform(),
        "random": lambda seed: Random(grid, seed),
        "edges": lambda _: Edges(),
        "blurred": lambda _: _changed(first, lambda heat: gaussian(heat[None], height / grid[0])[0]),
        "sharpened": lambda _: _changed(first, lambda heat: heat**2),
    }
    if name == "class_blind":
        return _from_arrays(name, "baseline", _class_blind, engine)
    if name not in plain:
        raise MethodError(f"unknown baseline '{name}': expected some of {', '.join(BASELINES)}")
    return Row(name, "baseline", plain[name], shares=name in CONTROLS and first.shares)


def _from_arrays(name: str, kind: Kind, rule: Rule, engine: SharedEngine) -> Row:
    """A rule: activations and gradients come from the shared engine."""

    def explain(images: Images, classes: Classes) -> Maps:
        arrays = engine.arrays(images, classes)
        size = (int(images.shape[2]), int(images.shape[3]))
        return np.stack([normalise(heat, size) for heat in rule(arrays.activations, arrays.gradients)])

    return Row(name, kind, lambda _seed: explain, rule=rule, shares=True)


def _class_blind(activations: Any, gradients: Any) -> Maps:
    first: NDArray[Any] = activations[0] if isinstance(activations, tuple) else activations
    return np.abs(first).mean(axis=1)


def _changed(row: Row, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Explain:
    def explain(images: Images, classes: Classes) -> Maps:
        maps = row.explain(images, classes)
        return np.stack([normalise(np.maximum(change(heat), 0).astype(np.float32)) for heat in maps])

    return explain
