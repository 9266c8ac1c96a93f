"""Measures against thresholds: which limits were missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .likeness import SCORED
from .summary import PlaceSummary
from .thresholds import Thresholds

__all__ = ["TITLES", "Failure", "MovedLimit", "missed_limits", "moved_limit"]

#: Measure -> how it is called in front of people.
TITLES = {
    "spearman": "Spearman",
    "pearson": "Pearson",
    "iou": "IoU of the top 20 %",
    "peak_distance": "peak distance / diagonal",
    "moved": "moved peaks",
    "clusters": "cluster labels, ARI",
    "class_sensitivity": "class sensitivity",
    "empty_maps": "empty maps",
    "top1": "top-1 agreement",
    "explained": "photos that the candidate could not explain",
    "reference_maps": "photos with a map in the reference",
}


@dataclass(frozen=True)
class Failure:
    """A threshold that was missed. place: the layer's name, "fused", or None for what concerns the whole network."""

    measure: str
    place: str | None
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class MovedLimit:
    """The largest share of photos whose peak may move. by: the threshold, or float32's own peaks under jitter."""

    share: float
    by: Literal["threshold", "jitter"]

    def __str__(self) -> str:
        return f"{self.share:.1%} (as under jitter)" if self.by == "jitter" else f"{self.share * 100:g}%"


def moved_limit(summary: PlaceSummary, thresholds: Thresholds) -> MovedLimit | None:
    """The larger of the threshold and what noise that nobody sees moves in float32; None where there is no limit."""
    if thresholds.moved_peaks is None:
        return None
    jitter = summary.measures["moved"].jitter
    if jitter > thresholds.moved_peaks:  # False for NaN too
        return MovedLimit(jitter, "jitter")
    return MovedLimit(thresholds.moved_peaks, "threshold")


def _place_failures(summary: PlaceSummary, thresholds: Thresholds) -> list[Failure]:
    """Everything that one layer, or the fused map, falls short of.

    Where the reference has no map on any photo, that alone: where nothing was compared, nothing has passed.
    """
    name, role = summary.place.name, summary.place.role
    failures: list[Failure] = []

    def missed(measure: str, value: float, limit: float, text: str) -> None:
        where = "fused map" if role == "fused" else f"layer {name}"
        failures.append(Failure(measure, name, value, limit, f"{where}: {text}"))

    if summary.count == 0:
        text = "the reference has no map on any photo, nothing could be judged: take other photos, or another method"
        missed("reference_maps", 0.0, 1.0, text)
        return failures
    for measure in SCORED:
        value, limit = summary.measures[measure], thresholds.score(measure, role)
        if value.score is not None and limit is not None and value.score < limit:
            text = f"{TITLES[measure]} score {value.score:.3f} ({value.candidate:.4f}), below {limit:g}"
            missed(measure, value.score, limit, text)
    moved, most = summary.measures["moved"].candidate, moved_limit(summary, thresholds)
    if most is not None and moved > most.share:
        missed("moved", moved, most.share, f"the peak moved on {moved:.1%} of {summary.count} photos, more than {most}")
    least = thresholds.class_sensitivity
    if least is not None and not math.isnan(summary.kept):
        both = f"{summary.sensitivity:.4f} against {summary.sensitivity_reference:.4f}"
        text = f"class sensitivity {both}, {summary.kept:.3f} of it"
        if summary.kept < least:
            missed("class_sensitivity", summary.kept, least, f"{text}, below {least:g}")
        elif summary.kept > 1 / least:
            missed("class_sensitivity", summary.kept, 1 / least, f"{text}, above {1 / least:.3f}")
    share = summary.lost / summary.count
    if thresholds.empty_maps is not None and share > thresholds.empty_maps:
        text = f"{summary.lost} of {summary.count} maps are empty, more than {thresholds.empty_maps:.1%}"
        missed("empty_maps", share, thresholds.empty_maps, text)
    return failures


def missed_limits(
    places: Sequence[PlaceSummary], agreeing: int, count: int, broken: int, thresholds: Thresholds
) -> tuple[Failure, ...]:
    """Every limit that was missed: the network's own first, then by layer.

    agreeing: photos of `count` with the reference's top class. broken: those on which the candidate failed.
    """
    failures = []
    if broken:
        text = f"the candidate could not explain {broken} of {count + broken} photos"
        failures.append(Failure("explained", None, float(broken), 0.0, text))
    share = agreeing / count
    if thresholds.top1 is not None and share < thresholds.top1:
        text = f"top-1 agreement {share:.3f} ({agreeing} of {count} photos), below {thresholds.top1:g}"
        failures.append(Failure("top1", None, share, thresholds.top1, text))
    for place in places:
        failures += _place_failures(place, thresholds)
    return tuple(failures)
