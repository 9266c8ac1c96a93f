"""Measures against thresholds: which limits were missed, and which are not decided by so few photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...runtime.contract.manifest import Outcome
from .deciding import RISK, Decision, fewer_than, mean_within, most_needed, share_within
from .likeness import SCORED
from .summary import PlaceSummary
from .thresholds import Thresholds

__all__ = ["TITLES", "Failure", "MovedLimit", "Undecided", "Verdict", "judge", "moved_limit"]

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
class Undecided:
    """A limit of which the photos show neither that it is kept nor that it is missed.

    measure, place, value, limit: as of a `Failure`. needed: photos that would about decide; None where the value is so
    close to the limit that no number can be named.
    """

    measure: str
    place: str | None
    value: float
    limit: float
    needed: int | None
    text: str


@dataclass(frozen=True)
class Verdict:
    """Of all limits: failed if one was missed, passed if all were shown to be kept, else undecided."""

    failures: tuple[Failure, ...] = ()
    undecided: tuple[Undecided, ...] = ()

    @property
    def outcome(self) -> Outcome:
        return "failed" if self.failures else "undecided" if self.undecided else "passed"

    @property
    def photos_needed(self) -> int | None:
        """Photos that would about decide what is undecided."""
        return most_needed([one.needed for one in self.undecided])


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


class _Collected:
    """What is missed and what is undecided, as it is found."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.undecided: list[Undecided] = []

    def add(
        self, decision: Decision, measure: str, place: str | None, value: float, limit: float, missed: str, kept: str
    ) -> None:
        """missed: what is said where the limit is missed. kept: of what is undecided, the value and its limit."""
        if decision.outcome == "failed":
            self.failures.append(Failure(measure, place, value, limit, missed))
        elif decision.outcome == "undecided":
            needed = decision.needed
            more = "too close to say how many photos" if needed is None else f"about {needed} photos"
            text = f"{kept}: {more} would decide"
            self.undecided.append(Undecided(measure, place, value, limit, decision.needed, text))


def _judge_place(found: _Collected, summary: PlaceSummary, thresholds: Thresholds, risk: float) -> None:
    """All limits of one layer, or of the fused map.

    Where the reference has no map on any photo, that alone: where nothing was compared, nothing has passed.
    """
    name, role = summary.place.name, summary.place.role
    where = "fused map" if role == "fused" else f"layer {name}"
    if summary.count == 0:
        text = "the reference has no map on any photo, nothing could be judged: take other photos, or another method"
        found.failures.append(Failure("reference_maps", name, 0.0, 1.0, f"{where}: {text}"))
        return
    for measure in SCORED:
        value, limit = summary.measures[measure], thresholds.score(measure, role)
        if value.score is not None and limit is not None:
            rows = summary.rows[measure]
            decision = mean_within(rows.losses, rows.scales, rows.weights, 1 - limit)
            shown = f"{where}: {TITLES[measure]} score {value.score:.3f}"
            missed = f"{shown} ({value.candidate:.4f}), below {limit:g}"
            found.add(decision, measure, name, value.score, limit, missed, f"{shown}, limit {limit:g}")
    if thresholds.moved_peaks is not None:
        _judge_moved(found, summary, thresholds, where, risk)
    least = thresholds.class_sensitivity
    if least is not None and not math.isnan(summary.kept):
        _judge_sensitivity(found, summary, least, where)
    if thresholds.empty_maps is not None:
        share, most = summary.lost / summary.count, thresholds.empty_maps
        shown = f"{where}: {summary.lost} of {summary.count} maps are empty"
        decision = share_within(summary.lost, summary.count, most, risk)
        found.add(
            decision, "empty_maps", name, share, most, f"{shown}, more than {most:.1%}", f"{shown}, limit {most:.1%}"
        )


def _judge_moved(found: _Collected, summary: PlaceSummary, thresholds: Thresholds, where: str, risk: float) -> None:
    """As many peaks may move as the limit says, or as move under jitter: to pass, either has to be shown, each with
    half of the risk; to fail, both have to be refuted."""
    most, limit = thresholds.moved_peaks, moved_limit(summary, thresholds)
    assert most is not None
    assert limit is not None
    moved = summary.measures["moved"].candidate
    against = (summary.only_moved, summary.only_jittered)
    within = share_within(summary.moved, summary.count, most, risk / 2)
    if "passed" in (within.outcome, fewer_than(*against, risk / 2)):
        return
    missed = share_within(summary.moved, summary.count, most, risk).outcome == "failed"
    # No more may move than the limit of 0 says: then one photo that moves where none does under jitter is enough.
    worse = fewer_than(*against, risk) == "failed" or (most == 0 and summary.only_jittered == 0)
    decision = Decision("failed") if missed and worse else Decision("undecided", within.needed)
    shown = f"{where}: the peak moved on {moved:.1%} of {summary.count} photos"
    found.add(
        decision,
        "moved",
        summary.place.name,
        moved,
        limit.share,
        f"{shown}, more than {limit}",
        f"{shown}, limit {limit}",
    )


def _judge_sensitivity(found: _Collected, summary: PlaceSummary, least: float, where: str) -> None:
    """Neither less than `least` may be kept of the reference's class sensitivity, nor more than its reciprocal."""
    rows, name = summary.rows["class_sensitivity"], summary.place.name
    shown = f"{where}: class sensitivity {summary.sensitivity:.4f} against {summary.sensitivity_reference:.4f}"
    shown += f", {summary.kept:.3f} of it"
    lost = mean_within(rows.losses, rows.scales, rows.weights, 1 - least)
    gained = mean_within([-one for one in rows.losses], rows.scales, rows.weights, 1 / least - 1)
    if gained.outcome == "failed" or (lost.outcome == "passed" and gained.outcome == "undecided"):
        limit, words, decision = 1 / least, f"above {1 / least:.3f}", gained
    else:
        limit, words, decision = least, f"below {least:g}", lost
    missed, kept = f"{shown}, {words}", f"{shown}, limit {limit:.3g}"
    found.add(decision, "class_sensitivity", name, summary.kept, limit, missed, kept)


def judge(
    places: Sequence[PlaceSummary],
    agreeing: int,
    count: int,
    broken: int,
    thresholds: Thresholds,
    *,
    identical: bool = False,
    risk: float = RISK,
) -> Verdict:
    """Every limit that was missed or is undecided: the network's own first, then by layer.

    Args:
        places: The layers, and the fused map.
        agreeing: Photos of `count` with the reference's top class.
        count: Photos that were compared.
        broken: Photos on which the candidate failed.
        thresholds: The limits.
        identical: Scores and maps of both files are the same on all photos, but for float32's rounding. Then the files
            compute the same, and nothing is left to the choice of photos.
        risk: Of either error in this look, for shares; means need no division.

    Returns:
        The verdict.
    """
    found = _Collected()
    if broken:
        text = f"the candidate could not explain {broken} of {count + broken} photos"
        found.failures.append(Failure("explained", None, float(broken), 0.0, text))
    if thresholds.top1 is not None:
        shown = f"top-1 agreement {agreeing / count:.3f} ({agreeing} of {count} photos)"
        limit = thresholds.top1
        # As 1 - limit is rounded, 0.98 would not allow 2 of 100.
        decision = share_within(count - agreeing, count, round(1 - limit, 12), risk)
        found.add(
            decision, "top1", None, agreeing / count, limit, f"{shown}, below {limit:g}", f"{shown}, limit {limit:g}"
        )
    for place in places:
        _judge_place(found, place, thresholds, risk)
    return Verdict(tuple(found.failures), () if identical else tuple(found.undecided))
