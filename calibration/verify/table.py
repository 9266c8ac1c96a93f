"""The measures as rows of words, for the terminal and the HTML report alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .likeness import SCORED
from .summary import PlaceSummary
from .verdict import TITLES, moved_limit

if TYPE_CHECKING:
    from .layerwise import LayerwiseReport
    from .results import VerifyReport

__all__ = [
    "COLUMNS",
    "LAYERWISE_COLUMNS",
    "Row",
    "layerwise_rows",
    "layerwise_title",
    "place_rows",
    "place_title",
    "top_rows",
]

COLUMNS = ("candidate", "worst photo", "score", "limit", "jittered", "other class", "noise")


LAYERWISE_COLUMNS = ("node", "operator", "makes", "error of what it reads", "of what it makes", "jump")

#: So many nodes are shown.
_NODES = 10


@dataclass(frozen=True)
class Row:
    """cells: as many as `COLUMNS`, empty where there is nothing to say. failed: a limit was missed. undecided: the
    photos do not show whether it is kept."""

    title: str
    cells: tuple[str, ...]
    failed: bool
    undecided: bool = False

    @property
    def mark(self) -> str:
        """What stands at the end of the row."""
        return "FAILED" if self.failed else "undecided" if self.undecided else ""


def top_rows(report: VerifyReport) -> list[Row]:
    """What concerns the network as a whole."""
    top, mark = report.top1, _marks(report, None)
    interval = f"{top.share:.3f} [{top.low:.3f}, {top.high:.3f}]"
    return [
        Row(TITLES["top1"], (interval, "", "", _least(report.thresholds.top1), "", "", ""), *mark("top1")),
        Row(
            "logits, |difference| / spread",
            (_number(report.logits_mean), _number(report.logits_max), "", "", _number(report.jitter_mean), "", ""),
            False,
        ),
    ]


def place_title(summary: PlaceSummary) -> str:
    """Which map the rows are about."""
    height, width = summary.place.grid
    what = {
        "last": f"layer {summary.place.name} (last",
        "middle": f"layer {summary.place.name} (middle",
        "fused": "fused map (",
    }
    comma = "" if summary.place.role == "fused" else ", "
    return f"{what[summary.place.role]}{comma}{height} x {width}), {summary.count} photos"


def place_rows(report: VerifyReport, summary: PlaceSummary) -> list[Row]:
    """What concerns one layer, or the fused map."""
    if summary.count == 0:
        return [Row(TITLES["reference_maps"], ("0", "", "", ">= 1", "", "", ""), True)]
    mark, limits = _marks(report, summary.place.name), report.thresholds
    most = moved_limit(summary, limits)
    rows = []
    for name, one in summary.measures.items():
        limit = _least(limits.score(name, summary.place.role)) if name in SCORED else ""
        score = "" if one.score is None else _number(one.score)
        worst, show = _number(one.worst), _number
        if name == "moved":
            limit, worst, show = "" if most is None else f"<= {most}", "", _percent
        cells = (show(one.candidate), worst, score, limit, show(one.jitter), show(one.other), show(one.noise))
        rows.append(Row(TITLES[name], cells, *mark(name)))
    if not math.isnan(summary.clusters):
        cells = (_number(summary.clusters), "", "", "", _number(summary.clusters_jitter), "", "")
        rows.append(Row(TITLES["clusters"], cells, False))
    if not math.isnan(summary.kept):
        both = f"{summary.sensitivity:.4f} of {summary.sensitivity_reference:.4f}"
        cells = (both, "", _number(summary.kept), _around_1(limits.class_sensitivity), "", "", "")
        rows.append(Row(TITLES["class_sensitivity"], cells, *mark("class_sensitivity")))
    cells = (f"{summary.lost} of {summary.count}", "", "", _most(limits.empty_maps), "", "", "")
    rows.append(Row(TITLES["empty_maps"], cells, *mark("empty_maps")))
    return rows


def layerwise_title(report: LayerwiseReport) -> str:
    """What the rows are about."""
    return f"where they part: {report.compared} of {report.values} values compared, {report.photos} photos"


def layerwise_rows(report: LayerwiseReport) -> list[tuple[str, ...]]:
    """The nodes at which the error jumps most, as many cells as `LAYERWISE_COLUMNS`."""
    return [
        (one.node, one.operator, one.value, _percent(one.before), _percent(one.after), f"{one.jump:.1f}")
        for one in report.jumps[:_NODES]
    ]


def _marks(report: VerifyReport, place: str | None) -> Callable[[str], tuple[bool, bool]]:
    """Of a measure in one place: whether its limit was missed, and whether that is undecided."""
    missed, undecided = (
        {one.measure for one in found if one.place == place} for found in (report.failures, report.undecided)
    )
    return lambda measure: (measure in missed, measure in undecided)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def _least(value: float | None) -> str:
    return "" if value is None else f">= {value:g}"


def _around_1(value: float | None) -> str:
    return "" if value is None else f"{value:g} to {1 / value:.3g}"


def _most(value: float | None) -> str:
    return "" if value is None else f"<= {value * 100:g}%"
