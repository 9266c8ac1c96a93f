"""`VerifyReport`: how far two files' explanations agree, and whether that is enough."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...runtime.contract.manifest import Outcome
from ...runtime.files import write_bytes
from ...runtime.methods.layer_fusion import FileForm
from ..json_values import plain
from .comparing import Failed, PhotoMeasures
from .layerwise import LayerwiseReport
from .pictures import Case, save_sheet
from .summary import MeasureSummary, PlaceSummary, weight
from .thresholds import Thresholds
from .verdict import Failure, Undecided, Verdict, moved_limit

__all__ = ["SCHEMA", "FileFacts", "Top1", "VerifyReport"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.verify/1"


@dataclass(frozen=True)
class FileFacts:
    """One of the two files: what it is and what ran it."""

    path: str
    precision: str
    provider: str


@dataclass(frozen=True)
class Top1:
    """Share of photos with the reference's top class. low, high: Wilson's 95 % interval (Wilson, JASA 1927)."""

    agreeing: int
    count: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class VerifyReport:
    """True when every limit was shown to be kept; `verdict` tells what failed from what is undecided.

    Photos that could not be read are in `failed` and miss no limit by themselves. photos: those that were looked at, of
    so many that were `given`; fewer where the verdict was known before.

    logits_max, logits_mean: largest difference on any photo, and mean one, in standard deviations of the reference's
    logits of a photo; jitter_max, jitter_mean: the same of the reference on jittered photos. NaN for one class.
    cases: pictures of the worst photos. form: of both files' maps, None for methods that have but one.
    """

    candidate: FileFacts
    reference: FileFacts
    method: str
    settings: Mapping[str, Any]
    fusion: str | None
    form: FileForm | None
    thresholds: Thresholds
    top1: Top1
    logits_max: float
    logits_mean: float
    jitter_max: float
    jitter_mean: float
    places: tuple[PlaceSummary, ...]
    photos: tuple[PhotoMeasures, ...]
    failures: tuple[Failure, ...]
    failed: tuple[Failed, ...]
    undecided: tuple[Undecided, ...] = ()
    given: int = 0
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    cases: tuple[Case, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return self.verdict == "passed"

    @property
    def verdict(self) -> Outcome:
        """``passed``, ``failed``, or ``undecided`` where the photos show neither."""
        return Verdict(self.failures, self.undecided).outcome

    @property
    def photos_needed(self) -> int | None:
        """Photos that would about decide an undecided verdict; None where no number can be named."""
        return Verdict((), self.undecided).photos_needed

    @property
    def verdict_text(self) -> str:
        """The verdict in words."""
        if self.verdict == "passed":
            return "passed"
        if self.verdict == "failed":
            count = len(self.failures)
            return f"FAILED: {count} {'limit was' if count == 1 else 'limits were'} missed"
        needed = self.photos_needed
        more = "too close to a limit to say how many would decide" if needed is None else f"about {needed} would decide"
        count = len(self.photos)
        return f"UNDECIDED: {count} photo{'' if count == 1 else 's'}, {more}"

    def to_dict(self, *, photos: bool = True) -> dict[str, Any]:
        """As plain JSON values, null for what is no number. photos: with a row for every photo."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "passed": bool(self),
            "verdict": self.verdict,
            "undecided": [dataclasses.asdict(one) for one in self.undecided],
            "photos_needed": self.photos_needed,
            "given": self.given,
            "failures": [dataclasses.asdict(one) for one in self.failures],
            "candidate": dataclasses.asdict(self.candidate),
            "reference": dataclasses.asdict(self.reference),
            "method": self.method,
            "settings": dict(self.settings),
            "fusion": self.fusion,
            "form": None if self.form is None else self.form.to_dict(),
            "count": len(self.photos),
            "thresholds": dataclasses.asdict(self.thresholds),
            "top1": dataclasses.asdict(self.top1),
            "logits": {
                "max": self.logits_max,
                "mean": self.logits_mean,
                "jitter_max": self.jitter_max,
                "jitter_mean": self.jitter_mean,
            },
            "layers": [_place(one, self.thresholds) for one in self.places],
            "warnings": list(self.warnings),
            "errors": [{"image": one.name, "error": one.error, "candidate": one.candidate} for one in self.failed],
            "seconds": round(self.seconds, 3),
        }
        if photos:
            document["photos"] = [_photo(one, self.places) for one in self.photos]
        return plain(document)

    def save_html(
        self, path: str | os.PathLike[str], *, command: str = "", layerwise: LayerwiseReport | None = None
    ) -> None:
        """Everything in one HTML file that loads nothing. Raises `OutputError`, `MissingDependencyError`."""
        from .report import render_report

        write_bytes(path, render_report(self, command=command, layerwise=layerwise).encode())

    def save_sheet(self, path: str | os.PathLike[str]) -> None:
        """The worst photos side by side, as PNG or JPEG. Raises `OutputError`."""
        save_sheet(path, self.cases)


def _place(summary: PlaceSummary, thresholds: Thresholds) -> dict[str, Any]:
    most = moved_limit(summary, thresholds)
    return {
        "name": summary.place.name,
        "role": summary.place.role,
        "count": summary.count,
        "measures": {name: _measure(one) for name, one in summary.measures.items()},
        "clusters": {"candidate": summary.clusters, "jitter": summary.clusters_jitter},
        "class_sensitivity": {
            "candidate": summary.sensitivity,
            "reference": summary.sensitivity_reference,
            "kept": summary.kept,
        },
        "moved_peaks": None if most is None else {"limit": most.share, "by": most.by},
        "empty_maps": {"lost": summary.lost, "gained": summary.gained},
        "typical_scale": summary.typical_scale,
        "light_photos": summary.light,
    }


def _measure(one: MeasureSummary) -> dict[str, Any]:
    return {
        "candidate": one.candidate,
        "worst": one.worst,
        "score": one.score,
        "jitter": one.jitter,
        "other_class": one.other,
        "noise": one.noise,
    }


def _photo(photo: PhotoMeasures, places: tuple[PlaceSummary, ...]) -> dict[str, Any]:
    return {
        "image": photo.name,
        "target": photo.target,
        "label": photo.label,
        "found": photo.predicted,
        "agrees": photo.agrees,
        "logits_max": photo.logits_max,
        "logits_mean": photo.logits_mean,
        "layers": {
            summary.place.name: {
                **dataclasses.asdict(one.candidate),
                "weight": 1.0 if summary.typical_scale else weight(one),
                "clusters": one.clusters,
                "empty": one.empty,
                "empty_reference": one.empty_reference,
            }
            for summary, one in zip(places, photo.places, strict=True)
        },
    }
