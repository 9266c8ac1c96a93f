"""Two results of ``cfcam bench`` side by side, and what makes them hard to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import CfcamError
from ..shown import shown_value
from .document import SCHEMA

__all__ = ["Comparison", "ResultError", "Row", "compare"]

#: What has to be equal for times to mean the same: path in the document -> how it is called.
_CONDITIONS = {
    "model.sha256": "model file",
    "model.precision": "precision",
    "engine.backend": "backend",
    "engine.provider": "provider",
    "engine.threads": "threads",
    "what.batch": "batch",
    "what.method": "method",
    "what.settings": "the method's settings",
    "what.layers": "layers",
    "what.fusion": "fusion",
    "what.form": "the maps' form",
    "image.name": "photo",
    "image.width": "photo's width",
    "image.height": "photo's height",
    "machine.cpu": "processor",
    "machine.board": "board",
    "machine.usable_cores": "usable cores",
    "machine.governor": "governor",
    "machine.system": "system",
    "gpu_names": "GPU",
}
#: Times of two results are compared at these points.
_POINTS = ("p50", "p90", "p99", "max")
#: A result is slower when one of these is.
_JUDGED = ("p50", "p99")


class ResultError(CfcamError):
    """A file is not a result of ``cfcam bench``, or one of another version."""


@dataclass(frozen=True)
class Row:
    """One figure of both. ratio: b / a, None where a is 0. judged: counts as a regression when it rises."""

    name: str
    point: str
    a: float
    b: float
    judged: bool

    @property
    def ratio(self) -> float | None:
        return self.b / self.a if self.a > 0 else None


@dataclass(frozen=True)
class Comparison:
    """rows: what both have. differences: what of the conditions is not equal, as (what, in a, in b)."""

    rows: tuple[Row, ...]
    differences: tuple[tuple[str, str, str], ...]

    def regressions(self, most: float) -> list[Row]:
        """Median or 99th percentile of a measure, where b / a is above `most`."""
        return [row for row in self.rows if row.judged and row.ratio is not None and row.ratio > most]

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": [{**asdict(row), "ratio": row.ratio} for row in self.rows],
            "differences": [{"what": what, "a": a, "b": b} for what, a, b in self.differences],
        }


def compare(a: Any, b: Any, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Of two documents as ``cfcam bench --json`` writes them. names: for messages. Raises `ResultError`."""
    for document, name in zip((a, b), names, strict=True):
        _check(document, name)
    rows: list[Row] = []
    for section, judged in (("latency_ms", True), ("stages_ms", False)):
        for name, times in a[section].items():
            if name in b[section]:
                points = _POINTS if judged else ("p50",)
                other = b[section][name]
                title = name if judged else f"stage: {name}"
                rows += [Row(title, point, times[point], other[point], judged and point in _JUDGED) for point in points]
    for name in ("open_ms", "first_ms"):
        rows += _row(name.removesuffix("_ms"), "once", a.get(name), b.get(name))
    rows += _row("memory", "high water", a["memory"].get("high_water"), b["memory"].get("high_water"))
    ratios = [(document.get("ratio") or {}).get("median") for document in (a, b)]
    rows += _row("explained / plain", "median", *ratios)
    return Comparison(tuple(rows), tuple(_differences(a, b)))


def _row(name: str, point: str, a: float | None, b: float | None) -> list[Row]:
    return [] if a is None or b is None else [Row(name, point, a, b, judged=False)]


def _check(document: Any, name: str) -> None:
    if not isinstance(document, Mapping) or not str(document.get("schema", "")).startswith("cfcam.bench/"):
        found = document.get("schema") if isinstance(document, Mapping) else None
        raise ResultError(
            f"{name}: is not a result of `cfcam bench` (schema {shown_value(found)}, expected '{SCHEMA}'): write one "
            "with `cfcam bench MODEL -o FILE.json`"
        )
    if document["schema"] != SCHEMA:
        raise ResultError(
            f"{name}: has the schema '{document['schema']}', expected '{SCHEMA}': measure again with this version"
        )
    for section in ("model", "engine", "what", "image", "machine", "versions", "latency_ms", "stages_ms", "memory"):
        if not isinstance(document.get(section), Mapping):
            raise ResultError(f"{name}: has no section '{section}': the file was cut or changed, measure again")
    for section in ("latency_ms", "stages_ms"):
        for measure, times in document[section].items():
            if not isinstance(times, Mapping) or not all(_is_number(times.get(p)) for p in _POINTS):
                raise ResultError(f"{name}: {section}.{measure} lacks one of {', '.join(_POINTS)}: measure again")

    ratio, gpus = document.get("ratio") or {}, document["machine"].get("gpus") or []
    fits = isinstance(ratio, Mapping) and isinstance(gpus, list) and all(isinstance(gpu, Mapping) for gpu in gpus)
    single = [document.get("open_ms"), document.get("first_ms"), document["memory"].get("high_water")]
    if not fits or not all(value is None or _is_number(value) for value in (*single, ratio.get("median"))):
        raise ResultError(
            f"{name}: open_ms, first_ms, memory.high_water, ratio or machine.gpus is not what `cfcam bench` writes: "
            "the file was changed, measure again"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found = [(title, _text(_at(a, path)), _text(_at(b, path))) for path, title in _CONDITIONS.items()]
    libraries = sorted({*a["versions"], *b["versions"]} - {"backend"})  # the backend is a condition already
    found += [(name, _text(a["versions"].get(name)), _text(b["versions"].get(name))) for name in libraries]
    return [(what, in_a, in_b) for what, in_a, in_b in found if in_a != in_b]


def _at(document: Mapping[str, Any], path: str) -> Any:
    if path == "gpu_names":
        return [gpu.get("name") for gpu in document["machine"].get("gpus") or []]
    section, key = path.split(".")
    return document[section].get(key)


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
