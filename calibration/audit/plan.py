"""What is measured on every photo, and why no more: ``plan.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ...runtime.files import write_bytes
from ...runtime.json_reader import parse_json, read_text
from ...runtime.shown import shown_value
from .errors import AuditError

__all__ = ["HEADROOM", "RUNGS", "SCHEMA", "USUAL", "Clock", "Ladder", "Plan", "choose_rungs", "read_plan", "write_plan"]

SCHEMA = "cfcam.audit-plan/1"

#: Cheapest first; each needs those before it.
RUNGS = ("label", "map", "class", "noise", "removal", "certified")
#: Those of an audit that does not ask for certified cells.
USUAL = RUNGS[:-1]

#: What plans of earlier audits lack, and what it was in them.
_LATER: dict[str, Any] = {
    "versions": {},
    "certified_cells": 0,
    "certified_why_not": None,
    "against_sha256": None,
    "against_photos": 0,
}

#: How much longer than in the sample a rung may take before a photo is over its budget.
HEADROOM = 1.25

#: Processor time of the process, or time that passes.
Clock = Literal["cpu", "wall"]
#: The same rungs for every photo, or as many as each photo's time allows.
Ladder = Literal["planned", "adaptive"]


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a row holds, but for the photo.

    Attributes:
        model_sha256: Of the file that is audited.
        method: Its name.
        settings: Of the method, by name.
        rungs: Some of `RUNGS`, from the first on.
        ladder: Whether every photo gets them all.
        budget_ms: Milliseconds per photo; None for any.
        clock: What the milliseconds are of.
        rung_ms: Rung -> what a photo took up to and with it, the 99.5th percentile of the sample.
        sample: How many photos were timed.
        headroom: What `rung_ms` was multiplied by before it was compared with the budget.
        threads: Of an inference; more of them than one may change the last bits of a score.
        contrast: Of the two maps that class sensitivity compares.
        noise: Standard deviation of the noise over the input's.
        seed: Of the noise, with the photo's own hash.
        provider: What runs the model.
        max_pixels: Photos with more are refused; None for the usual limit.
        annotations_sha256: Of boxes or masks; None without.
        metadata_sha256: Of the metadata; None without.
        reference_sha256: Of the reference profile; None without.
        certified_cells: How many cells of a map have to stay on top of the others for a certificate; 0 for none.
        certified_why_not: Why there is none although it was asked for.
        against_sha256: Of the float32 file that it is compared with; None without.
        against_photos: On how many photos at most, drawn by `seed`.
        versions: Of what the audit was begun with, by name.
    """

    model_sha256: str
    method: str
    settings: Mapping[str, Any]
    rungs: tuple[str, ...] = USUAL
    ladder: Ladder = "planned"
    budget_ms: float | None = None
    clock: Clock = "cpu"
    rung_ms: Mapping[str, float] | None = None
    sample: int = 0
    headroom: float = HEADROOM
    threads: int = 1
    contrast: float = 0.0
    noise: float = 0.1
    seed: int = 0
    provider: str = "cpu"
    max_pixels: int | None = None
    annotations_sha256: str | None = None
    metadata_sha256: str | None = None
    reference_sha256: str | None = None
    certified_cells: int = 0
    certified_why_not: str | None = None
    against_sha256: str | None = None
    against_photos: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

    def differences(self, asked: Plan) -> list[str]:
        """Names of what `asked` wants otherwise, leaving out what planning finds, and versions."""
        planned = ("rungs", "rung_ms", "sample", "headroom", "certified_why_not", "versions")
        mine, other = json.loads(json.dumps([asdict(self), asdict(asked)]))
        return [name for name in mine if name not in planned and mine[name] != other[name]]

    def marginal_ms(self, rung: str) -> float:
        """What `rung` is expected to add for a photo, with headroom."""
        times = self.rung_ms or {}
        place = RUNGS.index(rung)
        before = times.get(RUNGS[place - 1], 0.0) if place else 0.0
        return max(0.0, times.get(rung, 0.0) - before) * self.headroom


def choose_rungs(plan: Plan, times: Mapping[str, Sequence[float]]) -> Plan:
    """The plan with the rungs that fit its budget.

    Args:
        plan: With everything else.
        times: Rung -> milliseconds that each photo of the sample took up to and with it.

    Returns:
        In the planned ladder, the rungs up to the last whose 99.5th percentile, with headroom, is within the budget
        (of a sample of fewer than 200 photos, that is the slowest one); in the adaptive one, all.

    Raises:
        AuditError: The cheapest rung is over the budget.
    """
    limits = {rung: float(np.quantile(values, 0.995, method="higher")) for rung, values in times.items()}
    rungs = list(plan.rungs)
    if plan.budget_ms is not None:
        cheapest = limits[rungs[0]] * plan.headroom
        if cheapest > plan.budget_ms:
            raise AuditError(
                f"a budget of {plan.budget_ms:g} ms is below the cheapest rung, '{rungs[0]}', which takes "
                f"{cheapest:.1f} ms here ({plan.clock} time, 99.5th percentile with headroom {plan.headroom:g}): "
                f"give at least --budget-ms {np.ceil(cheapest):.0f}"
            )
        if plan.ladder == "planned":
            fits = [limits[rung] * plan.headroom <= plan.budget_ms for rung in rungs]
            rungs = rungs[: fits.index(False)] if False in fits else rungs
    rounded = {rung: round(value, 3) for rung, value in limits.items()}
    return replace(plan, rungs=tuple(rungs), rung_ms=rounded, sample=len(next(iter(times.values()))))


def write_plan(path: str | os.PathLike[str], plan: Plan) -> None:
    """Write ``plan.json``. Raises `OutputError`."""
    write_bytes(path, (json.dumps({"schema": SCHEMA, **asdict(plan)}, indent=2) + "\n").encode())


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """A plan that `write_plan` wrote.

    Args:
        path: Of the file.

    Returns:
        The plan.

    Raises:
        AuditError: It cannot be read, or is no plan.
    """
    file = Path(path)
    data = parse_json(read_text(file, AuditError), str(file), AuditError)
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise AuditError(f"{file}: is no plan of an audit (its schema is not '{SCHEMA}')")
    names = {one.name for one in fields(Plan)}
    data = {**_LATER, **data}
    if set(data) != names:
        odd = ", ".join(sorted(set(data) ^ names))
        raise AuditError(f"{file}: is no plan of an audit that this version wrote (missing or unknown: {odd})")
    _check(file, data)
    return Plan(**{**data, "rungs": tuple(data["rungs"])})


def _check(file: Path, data: dict[str, Any]) -> None:
    rungs, budget = data["rungs"], data["budget_ms"]
    checks = {
        "rungs": isinstance(rungs, list) and len(rungs) > 0 and tuple(rungs) == RUNGS[: len(rungs)],
        "ladder": data["ladder"] in get_args(Ladder),
        "clock": data["clock"] in get_args(Clock),
        "budget_ms": budget is None or (_is_number(budget) and budget > 0),
        "threads": type(data["threads"]) is int and data["threads"] > 0,
        "noise": _is_number(data["noise"]) and 0 < data["noise"] <= 10,
        "headroom": _is_number(data["headroom"]) and data["headroom"] >= 1,
        "contrast": data["contrast"] == 0,
        "seed": type(data["seed"]) is int and data["seed"] >= 0,
        "sample": type(data["sample"]) is int and data["sample"] >= 0,
        "certified_cells": type(data["certified_cells"]) is int and data["certified_cells"] >= ("certified" in rungs),
        "against_photos": type(data["against_photos"]) is int and data["against_photos"] >= 0,
        "method": isinstance(data["method"], str),
        "provider": isinstance(data["provider"], str),
        "model_sha256": isinstance(data["model_sha256"], str),
        "settings": isinstance(data["settings"], dict),
        "versions": isinstance(data["versions"], dict)
        and all(isinstance(version, str) for version in data["versions"].values()),
        "rung_ms": data["rung_ms"] is None
        or (isinstance(data["rung_ms"], dict) and all(map(_is_number, data["rung_ms"].values()))),
    }
    for name in ("annotations_sha256", "metadata_sha256", "reference_sha256", "against_sha256", "certified_why_not"):
        checks[name] = data[name] is None or isinstance(data[name], str)
    for name, good in checks.items():
        if not good:
            raise AuditError(f"{file}: {name}: {shown_value(data[name])} is no value of an audit's plan")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
