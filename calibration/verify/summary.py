"""Measures of many photos as one value per measure and layer.

``score = 1 - mean(w (1 - s)) / mean(w (1 - s_class))``, with s a measure of the candidate's map, s_class the same of
the reference's map for the second class and w the photo's `weight`. It is (s - s_class) / (1 - s_class) of the means: 1
is the same map, 0 as far off as another class's map. A ratio of means, not a mean of ratios: on a photo whose two
classes share their evidence s_class is nearly 1, and such a ratio alone would outweigh all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..statistics import mean_of_known
from .compared_file import Place
from .comparing import PlaceMeasures
from .likeness import SCORED, Likeness

__all__ = ["BLIND", "MEASURES", "TYPICAL", "Losses", "MeasureSummary", "PlaceSummary", "summarise", "weight"]

MEASURES = ("spearman", "pearson", "iou", "peak_distance", "moved")

#: Below this mean class sensitivity of the reference there is no second class to measure against.
BLIND = 1e-3
#: What 1 - s_class then is taken to be: about that of EfficientNet-Lite0's last layer, the smallest of three networks.
TYPICAL = {"spearman": 0.05, "pearson": 0.04, "iou": 0.25}
#: From this class sensitivity of the reference on, a photo has its full weight: half of the typical one.
FULL_WEIGHT = TYPICAL["pearson"] / 2


@dataclass(frozen=True)
class Losses:
    """A row for every photo: how far off the candidate is, how far off another class is, and how much it counts."""

    losses: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The weighted mean loss as a part of the weighted mean scale."""
        of_all = zip(self.losses, self.scales, self.weights, strict=True)
        rows = [(weight * loss, weight * scale) for loss, scale, weight in of_all]
        return sum(loss for loss, _ in rows) / max(sum(scale for _, scale in rows), BLIND * sum(self.weights))


@dataclass(frozen=True)
class MeasureSummary:
    """Means over the photos that have a map in the reference; NaN where there are none, or nothing to compare.

    worst: of the candidate's. score: None for measures without one.
    """

    candidate: float
    worst: float
    jitter: float
    other: float
    noise: float
    score: float | None


@dataclass(frozen=True)
class PlaceSummary:
    """One layer, or the fused map. count: photos with a map in the reference.

    lost: photos whose map the candidate has lost. gained: that have one in the candidate only. kept: the candidate's
    class sensitivity over the reference's, of the means; NaN where the reference has none.
    typical_scale: the reference's maps do not tell classes apart, and the scores take `TYPICAL`.
    light: photos that count for less (`weight`). rows: of every measure with a score and of the class sensitivity, what
    the verdict is taken on. moved, only_moved, only_jittered: photos whose peak moved in the candidate; in the
    candidate but not under jitter; and the other way round.
    """

    place: Place
    count: int
    measures: dict[str, MeasureSummary]
    clusters: float
    clusters_jitter: float
    sensitivity: float
    sensitivity_reference: float
    kept: float
    lost: int
    gained: int
    typical_scale: bool
    light: int
    rows: Mapping[str, Losses]
    moved: int
    only_moved: int
    only_jittered: int


def weight(photo: PlaceMeasures) -> float:
    """How much a photo counts in scores and in class sensitivity, 0 to 1.

    Where the reference's maps of the two classes are nearly the same, the distance between them is no scale for
    anything: below `FULL_WEIGHT` the weight falls with it, to 0 for equal maps.
    """
    if math.isnan(photo.sensitivity_reference):  # no second map: nothing is nearly the same
        return 1.0
    return min(1.0, max(0.0, photo.sensitivity_reference / FULL_WEIGHT))


def summarise(place: Place, photos: Sequence[PlaceMeasures]) -> PlaceSummary:
    """The measures of one place over all photos."""
    known = [one for one in photos if one.empty_reference is None]
    both = [one for one in known if not math.isnan(one.sensitivity) and not math.isnan(one.sensitivity_reference)]
    sensitivity = mean_of_known(one.sensitivity for one in both)
    reference = mean_of_known(one.sensitivity_reference for one in both)
    tells = reference >= BLIND  # False for NaN too
    weights = [weight(one) if tells else 1.0 for one in known]
    rows = {name: _losses(name, known, weights, tells) for name in SCORED if known}
    if tells:
        rows["class_sensitivity"] = Losses(
            tuple(one.sensitivity_reference - one.sensitivity for one in both),
            tuple(one.sensitivity_reference for one in both),
            tuple(weight(one) for one in both),
        )
    pairs = [(one.candidate.moved == 1, one.jitter.moved == 1) for one in known]
    return PlaceSummary(
        place=place,
        count=len(known),
        measures={name: _measure(name, known, rows.get(name)) for name in MEASURES},
        clusters=mean_of_known([one.clusters for one in known]),
        clusters_jitter=mean_of_known([one.clusters_jitter for one in known]),
        sensitivity=sensitivity,
        sensitivity_reference=reference,
        kept=1 - rows["class_sensitivity"].ratio if tells else math.nan,
        lost=sum(one.empty is not None for one in known),
        gained=sum(one.empty is None for one in photos if one.empty_reference is not None),
        typical_scale=not tells,
        light=sum(one < 1 for one in weights),
        rows=rows,
        moved=sum(candidate for candidate, _ in pairs),
        only_moved=sum(candidate and not jitter for candidate, jitter in pairs),
        only_jittered=sum(jitter and not candidate for candidate, jitter in pairs),
    )


def _losses(name: str, photos: Sequence[PlaceMeasures], weights: Sequence[float], tells: bool) -> Losses:
    others = [one.other for one in photos]
    scales = [TYPICAL[name] if one is None or not tells else 1 - getattr(one, name) for one in others]
    return Losses(tuple(1 - getattr(one.candidate, name) for one in photos), tuple(scales), tuple(weights))


def _measure(name: str, photos: Sequence[PlaceMeasures], rows: Losses | None) -> MeasureSummary:
    def column(rows: Sequence[Likeness | None]) -> list[float]:
        return [math.nan if row is None else getattr(row, name) for row in rows]

    candidate = column([one.candidate for one in photos])
    other = column([one.other for one in photos])
    values = [value for value in candidate if not math.isnan(value)]
    worst = (min if name in SCORED else max)(values, default=math.nan)
    score = None if rows is None else 1 - rows.ratio
    return MeasureSummary(
        candidate=mean_of_known(candidate),
        worst=worst,
        jitter=mean_of_known(column([one.jitter for one in photos])),
        other=mean_of_known(other),
        noise=mean_of_known(column([one.noise for one in photos])),
        score=score,
    )
