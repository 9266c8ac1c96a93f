"""Measures of many photos as one value per measure and layer.

``score = 1 - mean(1 - s) / mean(1 - s_class)``, with s a measure of the candidate's map and s_class the same of the
reference's map for the second class. It is (s - s_class) / (1 - s_class) of the means: 1 is the same map, 0 as far off
as another class's map. A ratio of means, not a mean of ratios: on a photo whose two classes share their evidence
s_class is nearly 1, and such a ratio alone would outweigh all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ..statistics import mean_of_known
from .compared_file import Place
from .comparing import PlaceMeasures
from .likeness import SCORED, Likeness

__all__ = ["BLIND", "MEASURES", "TYPICAL", "MeasureSummary", "PlaceSummary", "summarise"]

MEASURES = ("spearman", "pearson", "iou", "peak_distance", "moved")

#: Below this mean class sensitivity of the reference there is no second class to measure against.
BLIND = 1e-3
#: What 1 - s_class then is taken to be: about that of EfficientNet-Lite0's last layer, the smallest of three networks.
TYPICAL = {"spearman": 0.05, "pearson": 0.04, "iou": 0.25}


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


def summarise(place: Place, photos: Sequence[PlaceMeasures]) -> PlaceSummary:
    """The measures of one place over all photos."""
    known = [one for one in photos if one.empty_reference is None]
    both = [one for one in known if not math.isnan(one.sensitivity) and not math.isnan(one.sensitivity_reference)]
    sensitivity = mean_of_known(one.sensitivity for one in both)
    reference = mean_of_known(one.sensitivity_reference for one in both)
    tells = reference >= BLIND  # False for NaN too
    return PlaceSummary(
        place=place,
        count=len(known),
        measures={name: _measure(name, known, tells) for name in MEASURES},
        clusters=mean_of_known([one.clusters for one in known]),
        clusters_jitter=mean_of_known([one.clusters_jitter for one in known]),
        sensitivity=sensitivity,
        sensitivity_reference=reference,
        kept=sensitivity / reference if tells else math.nan,
        lost=sum(one.empty is not None for one in known),
        gained=sum(one.empty is None for one in photos if one.empty_reference is not None),
        typical_scale=not tells,
    )


def _measure(name: str, photos: Sequence[PlaceMeasures], tells: bool) -> MeasureSummary:
    def column(rows: Sequence[Likeness | None]) -> list[float]:
        return [math.nan if row is None else getattr(row, name) for row in rows]

    candidate = column([one.candidate for one in photos])
    other = column([one.other for one in photos])
    values = [value for value in candidate if not math.isnan(value)]
    worst = (min if name in SCORED else max)(values, default=math.nan)
    score = None
    if name in SCORED and values:
        scale = 1 - mean_of_known(other) if tells else TYPICAL[name]
        score = 1 - (1 - fmean(values)) / max(scale, BLIND)
    return MeasureSummary(
        candidate=mean_of_known(candidate),
        worst=worst,
        jitter=mean_of_known(column([one.jitter for one in photos])),
        other=mean_of_known(other),
        noise=mean_of_known(column([one.noise for one in photos])),
        score=score,
    )
