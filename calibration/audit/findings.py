"""What an audit can find in a photo's row: definitions, limits, and what they do not show.

The table of docs/audit.md and that of the report are made from `FINDINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FINDINGS", "Finding", "find", "markdown_table", "rates"]

#: Thresholds, by the names that the definitions have them under.
OFF_OBJECT = 0.5
LEFT_WITHOUT_OBJECT = 0.5
LARGEST_OBJECT = 0.9
CLASS_BLIND = 0.01
UNSTABLE = 0.5
NO_DROP = 0.05
NOT_ENOUGH = 0.5
UNDECIDED = 0.1
OUTLIER = 5.0


@dataclass(frozen=True)
class Finding:
    """One kind of finding.

    Attributes:
        name: In rows, limits and tables.
        definition: When a photo has it.
        cannot_show: What does not follow from it.
        control: What must not be flagged.
        judge: Row -> whether the photo has it; None where it cannot be told.
    """

    name: str
    definition: str
    cannot_show: str
    control: str
    judge: Callable[[Mapping[str, Any]], bool | None]


def _on_its_class(row: Mapping[str, Any]) -> bool:
    """Whether the annotation is about the predicted class; one without a class is taken to be."""
    return row["annotated"] is None or row["annotated"] == row["target"]


def _off_object(row: Mapping[str, Any]) -> bool | None:
    inside, share = row["energy_inside"], row["box_share"]
    if inside is None or not share or share > LARGEST_OBJECT or not _on_its_class(row):
        return None
    return inside < OFF_OBJECT * share


def _background(row: Mapping[str, Any]) -> bool | None:
    left, share = row["without_object"], row["box_share"]
    if left is None or not share or share > LARGEST_OBJECT or not _on_its_class(row):
        return None
    return left >= LEFT_WITHOUT_OBJECT


def _does_not_matter(row: Mapping[str, Any]) -> bool | None:
    if row["drop_without"] is None or row["keep_only"] is None:
        return None
    return row["drop_without"] < NO_DROP and row["keep_only"] < NOT_ENOUGH


def _below(column: str, threshold: float) -> Callable[[Mapping[str, Any]], bool | None]:
    return lambda row: None if row[column] is None else row[column] < threshold


FINDINGS = (
    Finding(
        "no_map",
        "the method gives no map of the predicted class",
        "that the prediction is wrong: a class may be chosen because nothing speaks for another",
        "photos on which the model is sure",
        lambda row: row["empty"],
    ),
    Finding(
        "off_object",
        f"the annotated class is the predicted one, the object takes at most {LARGEST_OBJECT:.0%} of the input, and "
        f"less than {OFF_OBJECT:g} times its share of the input is the share of the map that lies on it",
        "that the object was not used: a map is coarse, and shows where evidence lies, not what it is",
        "an even map, which puts as much on the object as the object takes",
        _off_object,
    ),
    Finding(
        "background",
        f"of the class's probability above chance (1 / number of classes), at least {LEFT_WITHOUT_OBJECT:g} is "
        "left when the annotated object is replaced "
        "by the photo's mean colour",
        "which part of the rest is used; and the shape of what was removed stays visible",
        "a model that reads the object alone",
        _background,
    ),
    Finding(
        "class_blind",
        f"the maps of the first and the second class, at contrast 0, differ by less than {CLASS_BLIND:g} "
        "(1 - correlation)",
        "that the model cannot tell the classes apart: two classes may share their evidence on one photo",
        "Grad-CAM on the same photos",
        _below("class_sensitivity", CLASS_BLIND),
    ),
    Finding(
        "unstable",
        f"with noise of a tenth of the input's standard deviation the map's rank correlation with itself is below "
        f"{UNSTABLE:g}",
        "how the map behaves under rain, blur or an attack: the noise is one draw of one kind",
        "a map that ignores the image, which is perfectly stable: read it beside class_blind",
        _below("noise_agreement", UNSTABLE),
    ),
    Finding(
        "map_does_not_matter",
        f"without the map's highest fifth less than {NO_DROP:g} of the probability above chance is lost, "
        f"and with it alone less than {NOT_ENOUGH:g} is left",
        "that the map is wrong: evidence may be there twice; and a photo with a hole is none that the model has learnt",
        "a map on a watermark that the model reads: without it the class goes",
        _does_not_matter,
    ),
    Finding(
        "outlier",
        f"a column of the map is more than {OUTLIER:g} robust standard deviations from the reference profile's centre",
        "a fault: a rare and right photo is an outlier too",
        "the photos that the profile was made of",
        lambda row: None if row["outlier"] is None else row["outlier"] > OUTLIER,
    ),
    Finding(
        "undecided",
        f"the probability is less than {UNDECIDED:g} above that of the second class",
        "that the larger margins are right: a probability is the model's own opinion",
        "photos on which the model is sure",
        _below("margin", UNDECIDED),
    ),
)


def find(row: Mapping[str, Any]) -> list[str]:
    """Names of the findings that a row has; none for a photo with an error."""
    return [] if row["error"] else [finding.name for finding in FINDINGS if finding.judge(row)]


def rates(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """How often each finding was made, among the photos on which it could be told.

    Args:
        rows: Of an audit; photos of one content count once.

    Returns:
        Name -> ``count``, ``of``, and where ``of`` is not 0 ``rate`` with its 95 % Wilson interval, ``low`` and
        ``high``; these three are None else.
    """
    from scipy.stats import binomtest

    seen: set[str] = set()
    found: dict[str, dict[str, Any]] = {
        finding.name: {"count": 0, "of": 0, "rate": None, "low": None, "high": None} for finding in FINDINGS
    }
    for row in rows:
        if row["error"] or row["sha256"] in seen:  # a copy of a photo is no further evidence
            continue
        seen.add(row["sha256"])
        for finding in FINDINGS:
            told = finding.judge(row)
            found[finding.name]["count"] += bool(told)
            found[finding.name]["of"] += told is not None
    for entry in found.values():
        if entry["of"]:
            interval = binomtest(entry["count"], entry["of"]).proportion_ci(method="wilson")
            entry["rate"] = entry["count"] / entry["of"]
            entry |= {"low": float(interval.low), "high": float(interval.high)}
    return found


def markdown_table() -> str:
    """`FINDINGS` as the table of docs/audit.md."""
    lines = ["| finding | when | what it cannot show | must not be flagged |", "|---|---|---|---|"]
    lines += [f"| `{one.name}` | {one.definition} | {one.cannot_show} | {one.control} |" for one in FINDINGS]
    return "\n".join(lines)
