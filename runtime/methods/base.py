"""What a method is: the types that every method module shares, and the registry.

A *rule* is a pure function of one image's activations and gradients. A *probe* runs the model,
or the part of it behind the layer, again and again; what it gets is a `Probing`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import MethodError

__all__ = [
    "CamResult",
    "Grouping",
    "Method",
    "get_method",
    "make_settings",
    "method_names",
    "register_probe",
    "register_rule",
]

Kind = Literal["rule", "probe"]
Run = Callable[..., "CamResult"]

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Grouping:
    """What clustering did with one image's C channels.

    labels: int64 (C,); cluster number, or `DOMINANT`, `NOISE`, `DEAD`.
    adopted: bool (C,); True for channels that DBSCAN called noise and that the method then
    gave to a cluster, or None where the method does no such thing.
    """

    labels: NDArray[np.int64]
    adopted: NDArray[np.bool_] | None = None

    #: Channels kept as they are, outside any cluster.
    DOMINANT = -2
    #: Channels that DBSCAN left without a cluster (and that the method did not adopt).
    NOISE = -1
    #: Channels whose activation is zero everywhere.
    DEAD = -3

    def counts(self) -> dict[str, int]:
        """Channels by kind, the number of clusters, and how many clustered channels were adopted."""
        kinds = {"dominant": self.DOMINANT, "noise": self.NOISE, "dead": self.DEAD}
        found = {name: int(np.count_nonzero(self.labels == label)) for name, label in kinds.items()}
        found["clustered"] = int(np.count_nonzero(self.labels >= 0))
        found["clusters"] = len(np.unique(self.labels[self.labels >= 0]))
        found["adopted"] = 0 if self.adopted is None else int(np.count_nonzero(self.adopted))
        return found


@dataclass(frozen=True)
class CamResult:
    """A method's answer for one image.

    map: float32 (H, W), not negative, not normalised; on the layer's grid, but for a few probes.
    grouping: what clustering did, or None for methods without it.
    empty: why the map means nothing ("all gradients are zero", ...), or None.
    """

    map: NDArray[np.float32]
    grouping: Grouping | None = None
    empty: str | None = None


@dataclass(frozen=True)
class Method:
    """A registered method. `settings` is a frozen dataclass type, or None for no settings.

    run: (activations (C, H, W), gradients (C, H, W), settings) -> `CamResult` for a rule, (`Probing`,
    settings) -> `CamResult` for a probe. needs_tail: a probe that runs the file of the tail.
    """

    name: str
    kind: Kind
    run: Run
    settings: type[Any] | None = None
    summary: str = field(default="", compare=False)
    needs_tail: bool = False


_METHODS: dict[str, Method] = {}


def register_rule(name: str, *, settings: type[Any] | None = None) -> Callable[[Run], Run]:
    """Register a rule under `name`; its docstring's first line becomes the summary."""
    return _register(name, "rule", settings, needs_tail=False)


def register_probe(name: str, *, settings: type[Any] | None = None, needs_tail: bool = False) -> Callable[[Run], Run]:
    """Register a probe under `name`; its docstring's first line becomes the summary."""
    return _register(name, "probe", settings, needs_tail)


def _register(name: str, kind: Kind, settings: type[Any] | None, needs_tail: bool) -> Callable[[Run], Run]:
    def decorate(run: Run) -> Run:
        summary = (run.__doc__ or "").strip().splitlines()[0] if run.__doc__ else ""
        _METHODS[name] = Method(name, kind, run, settings, summary, needs_tail)
        return run

    return decorate


def method_names(kind: Kind | None = None) -> list[str]:
    """Registered names, rules before probes; of one kind, or of both."""
    kinds = get_args(Kind) if kind is None else (kind,)
    return [name for one in kinds for name, method in _METHODS.items() if method.kind == one]


def get_method(name: str) -> Method:
    """Look `name` up. Raises `MethodError` with the nearest names."""
    try:
        return _METHODS[name]
    except KeyError:
        near = difflib.get_close_matches(name, _METHODS, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise MethodError(f"unknown method '{name}'{hint} Available: {', '.join(method_names())}") from None


def make_settings(method: Method, values: Any) -> Any:
    """Settings object of `method` from None, a mapping, or an instance. Raises `MethodError`."""
    if method.settings is None:
        if values:
            raise MethodError(f"method '{method.name}' takes no settings, got {values!r}")
        return None
    if isinstance(values, method.settings):
        return values
    if values is None:
        return method.settings()
    if not isinstance(values, Mapping):
        raise MethodError(f"settings of '{method.name}': expected a mapping, got {type(values).__name__}")
    known = [f.name for f in dataclasses.fields(method.settings)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise MethodError(f"method '{method.name}' has no setting '{key}'{hint} Settings: {', '.join(known)}")
    try:
        return method.settings(**values)
    except TypeError as error:
        raise MethodError(f"settings of '{method.name}': {error}") from error
