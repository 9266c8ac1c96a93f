"""The measures by name: what each costs, what its figures reward, and how one photo is measured.

An instrument looks at one photo with all contenders at once, so that they can share inferences. Those that come
with cfcam are in `standard`; others are added with `register_instrument` before a plan is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.contract.spec import InputSpec
from ...runtime.errors import CfcamError
from .rows import Contender
from .shared import SharedEngine

__all__ = ["Context", "Figure", "Instrument", "Sample", "all_instruments", "get_instrument", "register_instrument"]


@dataclass(frozen=True)
class Figure:
    """A column: which way is better, and what it rewards and is gamed by, in a sentence or two."""

    better: Literal["higher", "lower"]
    rewards: str


@dataclass(eq=False)
class Sample:
    """One photo. image float32 (C, H, W); probabilities (K,); target: the explained class.

    other: the best of the other classes, or None where there is none. region: bool (H, W) where the
    object is, or None where nothing is known. seed: of this photo. maps: contender -> (H, W) in [0, 1].
    """

    name: str
    image: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    target: int
    other: int | None
    region: NDArray[np.bool_] | None
    seed: int
    maps: dict[str, NDArray[np.floating[Any]]]

    def stacked(self, contenders: Sequence[Contender]) -> NDArray[np.floating[Any]]:
        """Maps (R, H, W) of `contenders`."""
        return np.stack([self.maps[one.name] for one in contenders])


@dataclass(frozen=True)
class Context:
    """What instruments may use: the network, how images were preprocessed, and the steps of curves."""

    engine: SharedEngine
    input: InputSpec
    steps: int


#: Photo, contenders (R) and context -> column -> R values, NaN where it is undefined for that contender.
Run = Callable[[Sample, Sequence[Contender], Context], Mapping[str, ArrayLike]]


@dataclass(frozen=True)
class Instrument:
    """A group of figures that are measured together.

    cheap: measured when nothing else was asked for. unit: ``photo``, or ``mosaic`` for figures that are
    measured on mosaics of four photos (the sample's `region` is then the cell of its target, and
    `run` is called for every cell).
    """

    name: str
    columns: Mapping[str, Figure]
    run: Run
    cheap: bool
    summary: str
    unit: Literal["photo", "mosaic"] = "photo"


class UnknownMeasureError(CfcamError, ValueError):
    """A measure that is not registered."""


_INSTRUMENTS: dict[str, Instrument] = {}


def register_instrument(instrument: Instrument) -> None:
    """Make `instrument` known by its name. Raises `UnknownMeasureError` when a column is taken already."""
    taken = {column for other in all_instruments() if other.name != instrument.name for column in other.columns}
    double = taken & set(instrument.columns)
    if double:
        raise UnknownMeasureError(f"measure '{instrument.name}': another one has the columns {sorted(double)}")
    _INSTRUMENTS[instrument.name] = instrument


def all_instruments() -> list[Instrument]:
    """All that are registered, in order."""
    return list(_INSTRUMENTS.values())


def get_instrument(name: str) -> Instrument:
    """Look `name` up. Raises `UnknownMeasureError`."""
    if name not in _INSTRUMENTS:
        raise UnknownMeasureError(f"unknown measure '{name}': expected some of {', '.join(_INSTRUMENTS)}, or 'all'")
    return _INSTRUMENTS[name]
