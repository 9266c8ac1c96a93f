"""An audit from start to end: plan, parts, summary. A run that was stopped goes on where it was."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...runtime.bench.machine import versions
from ...runtime.contract.modelfile import file_sha256
from ...runtime.contract.spec import InputSpec
from ...runtime.errors import CfcamError, ImageError
from ...runtime.explainer import Explainer
from ...runtime.files import write_bytes
from ...runtime.shown import shown, utf8
from ..evaluate.annotations import AnnotationError
from .errors import AuditError
from .limits import read_limits
from .parts import iter_rows, locked, write_part
from .plan import RUNGS, Clock, Ladder, Plan, choose_rungs, read_plan, write_plan
from .report import pick_cases, render_report
from .row import FIGURES, Row, arrow
from .rungs import method_of
from .signing import check_key, sign
from .slices import table
from .summary import summarise
from .workers import Job, opened, rows_of

__all__ = ["AuditOptions", "audit"]

#: How many photos are timed for a plan.
_SAMPLE = 24
#: A part is written when it has so many rows, or after so many seconds: what a killed run loses.
_ROWS, _SECONDS = 256, 5.0


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
        limits: What must be kept to, as YAML.
        sign: A private key that the folder is signed with.
        workers: Processes.
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
    limits: Path | None = None
    sign: Path | None = None
    workers: int = 1
    seed: int = 0
    max_pixels: int | None = None


def audit(
    model: Path,
    photos: Sequence[Path],
    folder: Path,
    options: AuditOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Audit a model on photos into a folder.

    A photo is known by its path and the hash of its content: what the folder has is not measured again. Two photos of
    one content are two rows with one hash.

    Args:
        model: The exported file or product.
        photos: Paths, each once.
        folder: For ``plan.json``, ``parts``, ``summary.json``, ``report.html`` and the signature.
        options: Everything else.
        progress: Told how many photos are done, and of how many.

    Returns:
        The document of ``summary.json``.

    Raises:
        AuditError: The photos, the plan, the budget or the folder do not fit.
        OutputError: The folder cannot be written; run again, and the audit goes on.
        CfcamError: The model or the annotations cannot be used.
    """
    options = options or AuditOptions()
    _check(photos, options)
    arrow()  # before minutes are spent
    for photo in photos:
        if str(photo) != utf8(str(photo)):
            raise AuditError(f"{shown(str(photo))}: its name is not UTF-8, which a table of rows needs: rename it")
    limits = None if options.limits is None else read_limits(options.limits)
    if options.sign is not None:
        check_key(options.sign)
    asked, about, view = _asked(model, options)
    job = Job(
        model, asked, options.boxes, options.masks, options.metadata, options.reference, max_pixels=options.max_pixels
    )
    warnings = _annotated(job, photos)
    with locked(folder):
        job = replace(job, plan=_planned(job, photos, folder, options))
        if job.plan.versions != asked.versions:
            warnings.append(_other_versions(job.plan.versions, asked.versions))
        parts = folder / "parts"
        done = {row["image"]: row for row in iter_rows(parts, ("image", "sha256", "error"))}
        left = _left(photos, done, folder)
        progress(len(photos) - len(left), len(photos))
        rows = _new(rows_of(job, left, min(options.workers, max(1, len(left)))), done)
        _measure(rows, parts, lambda count: progress(count, len(photos)), len(photos) - len(left))
        document = summarise(iter_rows(parts, FIGURES), job.plan, about, warnings)
        if not document["counts"]["audited"]:
            first = document["errors"][0]["error"]
            raise AuditError(f"none of the {len(photos)} photos could be audited; the first: {first}")
        if options.metadata is not None:
            document["slices"] = table(iter_rows(parts, FIGURES))
        if limits is not None:
            document["limits"] = limits.judge(document)
        write_bytes(folder / "summary.json", (json.dumps(utf8(document), indent=2, allow_nan=False) + "\n").encode())
        page = render_report(document, *_cases(parts, options.seed), view)
        write_bytes(folder / "report.html", page.encode(errors="replace"))
        if options.sign is not None:
            sign(folder, options.sign)
    return document


def _check(photos: Sequence[Path], options: AuditOptions) -> None:
    if not photos:
        raise AuditError("there are no photos to audit: give a folder, files or a pattern with --images")
    if options.budget_ms is not None and not 0 < options.budget_ms < float("inf"):
        raise AuditError(f"the budget is {options.budget_ms} ms: give milliseconds above 0")
    if options.boxes is not None and options.masks is not None:
        raise AuditError("boxes and masks were both given: give one of them")
    if options.plan is not None and (options.budget_ms is not None or options.method is not None):
        raise AuditError("a plan holds the budget and the method: leave --budget-ms and --method out, or --plan")
    for name in ("ladder", "clock", "seed", "provider"):
        given, usual = getattr(options, name), getattr(AuditOptions, name)
        if options.plan is not None and given != usual:
            raise AuditError(f"a plan holds the {name}: leave --{name} out, or --plan")
    if options.ladder == "adaptive" and options.budget_ms is None:
        raise AuditError("the adaptive ladder needs a budget: give --budget-ms")


def _asked(model: Path, options: AuditOptions) -> tuple[Plan, dict[str, Any], InputSpec]:
    """A plan with all rungs, as asked; what the model says about itself; and its input."""
    with Explainer(model, provider=options.provider, threads=1) as explainer:
        method, settings = method_of(explainer, options.method)
        sha256, provider, spec = file_sha256(model), explainer.provider, explainer.spec
        backend = explainer.engine.describe().backend
    plan = Plan(
        sha256,
        method,
        settings,
        ladder=options.ladder,
        budget_ms=options.budget_ms,
        clock=options.clock,
        seed=options.seed,
        provider=provider,
        max_pixels=options.max_pixels,
        annotations_sha256=_annotations_sha256(options),
        metadata_sha256=None if options.metadata is None else file_sha256(options.metadata, AuditError),
        reference_sha256=None if options.reference is None else file_sha256(options.reference, AuditError),
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


def _annotated(job: Job, photos: Sequence[Path]) -> list[str]:
    """Remarks about annotations and photos that do not belong together."""
    annotations = job.annotations()
    if annotations is None:
        return []
    without = sum(annotations.of(photo) is None for photo in photos)
    unused = annotations.without_photo(photos)
    if without == len(photos):
        raise AnnotationError(
            f"{annotations.source}: is about none of the {len(photos)} photos: photos are recognised by their file "
            f"names, such as {photos[0].name}, and there it has {unused[0]}"
        )
    remarks = [f"{annotations.source}: says nothing about {without} of {len(photos)} photos"] if without else []
    if unused:
        remarks.append(f"{annotations.source}: is also about {len(unused)} photos that are not audited")
    return remarks


def _planned(job: Job, photos: Sequence[Path], folder: Path, options: AuditOptions) -> Plan:
    """The folder's plan, the one that was given, or a new one."""
    place = folder / "plan.json"
    asked = job.plan
    if options.plan is not None:
        given = read_plan(options.plan)
        if given.model_sha256 != asked.model_sha256:
            raise AuditError(f"{options.plan}: is a plan for another model than {job.model}: leave --plan out")
        own = ("max_pixels", "annotations_sha256", "metadata_sha256", "reference_sha256", "versions")
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
    plan = asked if options.plan is not None else choose_rungs(asked, _timed(job, photos))
    write_plan(place, plan)
    return plan


def _timed(job: Job, photos: Sequence[Path]) -> dict[str, list[float]]:
    """Rung -> milliseconds up to and with it, of a sample of the photos that can be read."""
    order = list(photos)
    random.Random(job.plan.seed).shuffle(order)
    times: dict[str, list[float]] = {rung: [] for rung in RUNGS}
    first_error = ""
    # Without a budget, whose first rungs an adaptive ladder would leave out while it is timed.
    with opened(replace(job, plan=replace(job.plan, budget_ms=None))) as auditor:
        for count, photo in enumerate(order):
            warm = auditor.row(photo)  # the first runs of a backend take longer
            if warm["error"]:
                first_error = first_error or warm["error"]
                continue
            for place, rung in enumerate(RUNGS):
                times[rung].append(auditor.row(photo, RUNGS[: place + 1])["ms"])
            if len(times[RUNGS[0]]) == _SAMPLE or count > 1000:
                break
    if not times[RUNGS[0]]:
        raise ImageError(f"none of the photos could be audited; the first: {first_error}")
    return times


def _left(photos: Sequence[Path], done: Mapping[str, Row], folder: Path) -> list[Path]:
    """The photos that have no row yet, or one with an error, which may have passed.

    Raises `AuditError` where rows are of other photos, or of other content.
    """
    known = {str(photo): photo for photo in photos}
    strange = sorted(image for image in done if image not in known)
    if strange:
        raise AuditError(
            f"{folder}: holds an audit of {len(strange)} more photos, such as {strange[0]}: name them too with "
            "--images, or choose another folder with -o"
        )
    for image, row in done.items():
        if row["error"]:
            continue
        if _content(known.pop(image)) != row["sha256"]:
            raise AuditError(f"{image}: has changed since it was audited into {folder}: choose another folder with -o")
    return list(known.values())


def _content(photo: Path) -> str:
    try:
        return file_sha256(photo, ImageError)
    except CfcamError:
        return ""  # as in the row of a photo that could not be read


def _new(rows: Iterable[Row], done: Mapping[str, Row]) -> Iterator[Row | None]:
    """The rows that say something new; None for an error that is known."""
    for row in rows:
        known = done.get(row["image"])
        same = known is not None and all(known[name] == row[name] for name in ("sha256", "error"))
        yield None if same else row


def _measure(found: Iterable[Row | None], folder: Path, done: Callable[[int], None], count: int) -> None:
    """Write rows as parts; what is measured when an error comes is written too. count: of photos done before."""
    rows: list[Row] = []
    written = time.monotonic()
    try:
        for row in found:
            rows += [] if row is None else [row]
            count += 1
            if len(rows) >= _ROWS or (rows and time.monotonic() - written > _SECONDS):
                whole, rows = rows, []  # what is written twice would be refused for ever, so an interruption loses it
                write_part(folder, whole)
                written = time.monotonic()
            done(count)
    finally:
        if rows:
            write_part(folder, rows)


def _cases(parts: Path, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows that the page shows, with their maps."""
    worst, others = pick_cases(iter_rows(parts, FIGURES), seed)
    whole = {row["image"]: row for row in iter_rows(parts, only={row["image"] for row in (*worst, *others)})}
    return [whole[row["image"]] for row in worst], [whole[row["image"]] for row in others]


def _other_versions(begun: Mapping[str, str], now: Mapping[str, str]) -> str:
    names = sorted(name for name in {*begun, *now} if begun.get(name) != now.get(name))
    each = ", ".join(f"{name} {begun.get(name, 'unknown')}, now {now.get(name, 'unknown')}" for name in names)
    return f"the audit was begun with other versions ({each}): figures may differ between its photos"
