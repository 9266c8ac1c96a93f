"""The rows of the table: methods, and maps that explain nothing, all asked in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

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


class Row(Protocol):
    """A row. kind: what it is. rule: for methods that need nothing but arrays, else None.

    shares: whether `explain` takes its arrays from the shared engine, and so costs an inference that is not its own.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def rule(self) -> Rule | None: ...

    @property
    def shares(self) -> bool: ...

    def begin(self, seed: int) -> None:
        """A new photo comes; what is random starts from `seed`, so that the order of photos cannot matter."""
        ...

    def explain(self, images: Images, classes: Classes) -> Maps:
        """Maps (N, H, W) in [0, 1]: an `Explain`."""
        ...


class _FromArrays:
    """A rule: activations and gradients come from the shared engine."""

    shares = True

    def __init__(self, name: str, kind: Kind, rule: Rule, engine: SharedEngine) -> None:
        self.name = name
        self.kind: Kind = kind
        self.rule: Rule | None = rule
        self._rule, self._engine = rule, engine

    def begin(self, seed: int) -> None:
        pass

    def explain(self, images: Images, classes: Classes) -> Maps:
        found = self._engine.arrays(images, classes)
        size = (int(images.shape[2]), int(images.shape[3]))
        return np.stack([normalise(heat, size) for heat in self._rule(found.activations, found.gradients)])


class _Callable:
    """A probe, or a baseline that needs no network: made anew for every photo's seed."""

    rule: Rule | None = None

    def __init__(self, name: str, kind: Kind, make: Callable[[int], Explain], *, shares: bool = False) -> None:
        self.name, self.shares = name, shares
        self.kind: Kind = kind
        self._make = make
        self._explain = make(0)

    def begin(self, seed: int) -> None:
        self._explain = self._make(seed)

    def explain(self, images: Images, classes: Classes) -> Maps:
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
        return _FromArrays(access.method, "method", access.rule, engine)
    return _Callable(access.method, "method", lambda _seed: access.explain)


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
        return _FromArrays(name, "baseline", _class_blind, engine)
    if name not in plain:
        raise MethodError(f"unknown baseline '{name}': expected some of {', '.join(BASELINES)}")
    return _Callable(name, "baseline", plain[name], shares=name in CONTROLS and first.shares)


def _class_blind(activations: Any, gradients: Any) -> Maps:
    first: NDArray[Any] = activations[0] if isinstance(activations, tuple) else activations
    return np.abs(first).mean(axis=1)


def _changed(row: Row, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Explain:
    def explain(images: Images, classes: Classes) -> Maps:
        maps = row.explain(images, classes)
        return np.stack([normalise(np.maximum(change(heat), 0).astype(np.float32)) for heat in maps])

    return explain
