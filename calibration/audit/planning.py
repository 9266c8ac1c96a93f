"""From what was asked for to the plan of an audit: the folder's, a given one, or one that a sample was timed for."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...runtime.bench.machine import versions
from ...runtime.contract.modelfile import file_sha256
from ...runtime.contract.spec import InputSpec
from ...runtime.errors import ImageError
from ...runtime.explainer import Explainer
from ..evaluate.annotations import AnnotationError
from .certificate import why_not
from .errors import AuditError
from .parts import iter_rows
from .plan import RUNGS, USUAL, Clock, Ladder, Plan, choose_rungs, read_plan, write_plan
from .rungs import method_of
from .sources import Source
from .workers import Job, opened

__all__ = ["AuditOptions", "asked_plan", "check_options", "other_versions", "planned"]

#: How many photos are timed for a plan, and how many may be tried for them.
_SAMPLE, _TRIED = 24, 1000


@dataclass(frozen=True)
class AuditOptions:
    """What an audit can be asked for.

    Attributes:
        budget_ms: Milliseconds per photo; None for any.
        ladder: Whether every photo gets the same rungs.
        clock: What the milliseconds are of.
        method: Of the maps; None for the file's own.
        provider: What runs the model.
        plan: A ``plan.json`` to follow instead of making one.
        boxes: Where the objects are; None without.
        masks: The same, as a folder of masks.
        metadata: A CSV file with a row per photo, whose columns make slices.
        reference: A reference profile, of which outliers are told.
        against: The float32 file that a product is compared with, on a sample of the photos; None for none.
        against_photos: Of how many photos at most.
        certified: How many cells of the map are to stay on top for a certificate, the last rung; None for none.
        limits: What must be kept to, as YAML.
        sign: A private key that the folder is signed with.
        workers: Processes.
        ray: A Ray cluster that they are on; "local" for one on this machine, None for none.
        seed: Of the noise, and of the sample that is timed.
        max_pixels: Photos with more are refused; None for the usual limit.
    """

    budget_ms: float | None = None
    ladder: Ladder = "planned"
    clock: Clock = "cpu"
    method: str | None = None
    provider: str | None = None
    plan: Path | None = None
    boxes: Path | None = None
    masks: Path | None = None
    metadata: Path | None = None
    reference: Path | None = None
    against: Path | None = None
    against_photos: int = 200
    certified: int | None = None
    limits: Path | None = None
    sign: Path | None = None
    workers: int = 1
    ray: str | None = None
    seed: int = 0
    max_pixels: int | None = None


def check_options(options: AuditOptions) -> None:
    """Raise `AuditError` where options contradict each other."""
    if options.budget_ms is not None and not 0 < options.budget_ms < float("inf"):
        raise AuditError(f"the budget is {options.budget_ms} ms: give milliseconds above 0")
    if options.boxes is not None and options.masks is not None:
        raise AuditError("boxes and masks were both given: give one of them")
    if options.plan is not None and (options.budget_ms is not None or options.method is not None):
        raise AuditError("a plan holds the budget and the method: leave --budget-ms and --method out, or --plan")
    if options.certified is not None and options.certified < 1:
        raise AuditError(f"{options.certified} cells are to stay on top of the others: give at least 1")
    for name in ("ladder", "clock", "seed", "provider", "certified"):
        given, usual = getattr(options, name), getattr(AuditOptions, name)
        if options.plan is not None and given != usual:
            raise AuditError(f"a plan holds the {name}: leave --{name} out, or --plan")
    if options.against_photos < 1:
        raise AuditError(f"{options.against_photos} photos are to be compared with the float32 file: give at least 1")
    if options.against is None and options.against_photos != AuditOptions.against_photos:
        raise AuditError("a number of photos to compare was given, and no float32 file: give --against too")
    if options.ladder == "adaptive" and options.budget_ms is None:
        raise AuditError("the adaptive ladder needs a budget: give --budget-ms")


def asked_plan(model: Path, options: AuditOptions) -> tuple[Plan, dict[str, Any], InputSpec]:
    """A plan with all rungs, as asked; what the model says about itself; and its input."""
    with Explainer(model, provider=options.provider, threads=1) as explainer:
        method, settings = method_of(explainer, options.method)
        sha256, provider, spec = file_sha256(model), explainer.provider, explainer.spec
        backend = explainer.engine.describe().backend
        cells = options.certified or 0
        doubt = why_not(explainer, method, cells) if cells else None
    plan = Plan(
        sha256,
        method,
        settings,
        rungs=RUNGS if cells and doubt is None else USUAL,
        certified_cells=cells,
        certified_why_not=doubt,
        ladder=options.ladder,
        budget_ms=options.budget_ms,
        clock=options.clock,
        seed=options.seed,
        provider=provider,
        max_pixels=options.max_pixels,
        annotations_sha256=_annotations_sha256(options),
        metadata_sha256=None if options.metadata is None else file_sha256(options.metadata, AuditError),
        reference_sha256=None if options.reference is None else file_sha256(options.reference, AuditError),
        against_sha256=None if options.against is None else file_sha256(options.against, AuditError),
        against_photos=0 if options.against is None else options.against_photos,
        versions=versions(backend),
    )
    about = {
        "file": str(model),
        "sha256": sha256,
        "precision": spec.precision,
        "provider": provider,
        "layers": [layer.name for layer in spec.layers],
        "classes": spec.output.classes,
    }
    return plan, about, spec.input


def _annotations_sha256(options: AuditOptions) -> str | None:
    import hashlib

    if options.boxes is not None:
        return file_sha256(options.boxes, AnnotationError)
    if options.masks is None:
        return None
    try:
        names = sorted(path for path in options.masks.iterdir() if path.is_file())
    except OSError as error:
        raise AnnotationError(f"{options.masks}: is no folder of masks ({error.strerror or error})") from error
    each = "".join(f"{path.name}\0{file_sha256(path, AnnotationError)}\n" for path in names)
    return hashlib.sha256(each.encode(errors="surrogateescape")).hexdigest()


def planned(job: Job, source: Source, names: Sequence[str], folder: Path, options: AuditOptions) -> Plan:
    """The folder's plan, the one that was given, or a new one, which is written there; timed, where there is a budget.

    Args:
        job: With the plan as `asked_plan` has it.
        source: Of the photos.
        names: Of the photos.
        folder: Of the audit.
        options: What was asked for.

    Returns:
        The plan.

    Raises:
        AuditError: The plans do not fit, or the budget is below the cheapest rung.
        ImageError: No photo of a sample could be audited.
    """
    place = folder / "plan.json"
    asked = job.plan
    if options.plan is not None:
        given = read_plan(options.plan)
        if given.model_sha256 != asked.model_sha256:
            raise AuditError(f"{options.plan}: is a plan for another model than {job.model}: leave --plan out")
        own = (
            *("max_pixels", "annotations_sha256", "metadata_sha256", "reference_sha256"),
            *("against_sha256", "against_photos", "versions"),
        )
        asked = replace(given, **{name: getattr(asked, name) for name in own})
    if place.exists():
        plan = read_plan(place)
        changed = plan.differences(asked)
        if options.plan is not None and plan.rungs != asked.rungs:
            changed.append("rungs")
        if changed:
            raise AuditError(
                f"{folder}: holds an audit with another plan ({', '.join(changed)}): give the options that it was "
                "begun with, or another folder with -o"
            )
        return plan
    if next(iter_rows(folder / "parts", ("image",)), None) is not None:
        raise AuditError(f"{folder}: holds parts of an audit without its plan.json: choose another folder with -o")
    known = options.plan is not None or asked.budget_ms is None  # without a budget there is nothing to choose
    plan = asked if known else choose_rungs(asked, _timed(job, source, names))
    write_plan(place, plan)
    return plan


def _timed(job: Job, source: Source, names: Sequence[str]) -> dict[str, list[float]]:
    """Rung -> milliseconds up to and with it, of a sample of the photos that can be read."""
    order = list(names)
    random.Random(job.plan.seed).shuffle(order)
    rungs = job.plan.rungs
    times: dict[str, list[float]] = {rung: [] for rung in rungs}
    first_error = ""
    # Without a budget, whose first rungs an adaptive ladder would leave out while it is timed.
    with opened(replace(job, plan=replace(job.plan, budget_ms=None))) as auditor:
        for start in range(0, min(len(order), _TRIED), _SAMPLE):
            for photo in source.photos(frozenset(order[start : start + _SAMPLE])):
                warm = auditor.row(photo)  # the first runs of a backend take longer
                if warm["error"]:
                    first_error = first_error or warm["error"]
                    continue
                for place, rung in enumerate(rungs):
                    times[rung].append(auditor.row(photo, rungs[: place + 1])["ms"])
                if len(times[rungs[0]]) == _SAMPLE:
                    return times
    if not times[rungs[0]]:
        raise ImageError(f"none of the photos could be audited; the first: {first_error}")
    return times


def other_versions(begun: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The warning of an audit that goes on with other versions."""
    names = sorted(name for name in {*begun, *now} if begun.get(name) != now.get(name))
    each = ", ".join(f"{name} {begun.get(name, 'unknown')}, now {now.get(name, 'unknown')}" for name in names)
    return f"the audit was begun with other versions ({each}): figures may differ between its photos"
