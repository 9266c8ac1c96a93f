"""An audit from start to end: plan, parts, summary. A run that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...runtime.errors import CfcamError
from ...runtime.files import write_bytes
from ...runtime.shown import utf8
from ..evaluate.annotations import AnnotationError
from .against import check_against, compared, is_met, unless_compared
from .errors import AuditError
from .limits import read_limits
from .parts import iter_rows, locked, write_part
from .planning import AuditOptions, asked_plan, check_options, other_versions, planned
from .report import pick_cases, render_report
from .row import FIGURES, Row, arrow
from .signing import check_key, sign
from .slices import table
from .sources import Files, Photo, Source
from .sources.opening import Joined
from .summary import summarise
from .workers import Job, rows_of

__all__ = ["audit"]

#: A part is written when it has so many rows, or after so many seconds: what a killed run loses.
_ROWS, _SECONDS = 256, 5.0


def audit(
    model: Path,
    photos: Sequence[Path | Source],
    folder: Path,
    options: AuditOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    comparing: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Audit a model on photos into a folder.

    A photo is known by its name and the hash of its content: what the folder has is not measured again. Two photos of
    one content are two rows with one hash.

    Args:
        model: The exported file or product.
        photos: Paths of files, each once, and other sources of photos.
        folder: For ``plan.json``, ``parts``, ``summary.json``, ``report.html`` and the signature.
        options: Everything else.
        progress: Told how many photos are done, and of how many.
        comparing: The same of photos that are compared with the float32 file, when all are measured.

    Returns:
        The document of ``summary.json``.

    Raises:
        AuditError: The photos, the plan, the budget or the folder do not fit.
        OutputError: The folder cannot be written; run again, and the audit goes on.
        VerifyError: The float32 file is of another model.
        CfcamError: The model or the annotations cannot be used.
    """
    options = options or AuditOptions()
    check_options(options)
    arrow()  # before minutes are spent
    limits = None if options.limits is None else read_limits(options.limits)
    if options.sign is not None:
        check_key(options.sign)
    files = [one for one in photos if isinstance(one, Path)]
    source = Joined([*([Files(files)] if files else []), *(one for one in photos if not isinstance(one, Path))])
    names = source.names()
    if not names:
        raise AuditError("there are no photos to audit: give a folder, files or a pattern with --images")
    asked, about, view = asked_plan(model, options)
    if options.against is not None:
        check_against(model, options.against, asked)
    job = Job(
        model, asked, options.boxes, options.masks, options.metadata, options.reference, max_pixels=options.max_pixels
    )
    warnings = [*source.remarks, *_annotated(job, names)]
    with locked(folder):
        job = replace(job, plan=planned(job, source, names, folder, options))
        if job.plan.versions != asked.versions:
            warnings.append(other_versions(job.plan.versions, asked.versions))
        against = {} if options.against is not None else unless_compared(model, job.plan, about["precision"])
        if job.plan.certified_why_not is not None:
            warnings.append(f"no map is certified: {job.plan.certified_why_not}")
        parts = folder / "parts"
        done = {row["image"]: row for row in iter_rows(parts, ("image", "sha256", "error", "slice"))}
        left = _left(source, names, done, folder)
        progress(len(names) - len(left), len(names))
        rows = _rows(job, source, left, options)
        _measure(_new(rows, done), parts, lambda count: progress(count, len(names)), len(names) - len(left))
        document = summarise(iter_rows(parts, FIGURES), job.plan, about, warnings)
        if not document["counts"]["audited"]:
            first = document["errors"][0]["error"]
            raise AuditError(f"none of the {len(names)} photos could be audited; the first: {first}")
        document["slices"] = table(iter_rows(parts, FIGURES))
        if limits is not None:
            document["limits"] = limits.judge(document)
        if options.against is not None:
            some = iter_rows(parts, ("image", "sha256", "error"))
            against = compared(model, options.against, job.plan, some, source, folder, comparing)
        allowed = None if limits is None else limits.against
        document["against"] = {**against, "allowed": allowed, "met": is_met(against, allowed)}
        write_bytes(folder / "summary.json", (json.dumps(utf8(document), indent=2, allow_nan=False) + "\n").encode())
        worst, others = _cases(parts, options.seed)
        shown = {photo.name: photo for photo in source.photos({row["image"] for row in (*worst, *others)})}
        page = render_report(document, worst, others, view, shown)
        write_bytes(folder / "report.html", page.encode(errors="replace"))
        if options.sign is not None:
            sign(folder, options.sign)
    return document


def _annotated(job: Job, photos: Sequence[str]) -> list[str]:
    """Remarks about annotations and photos that do not belong together."""
    annotations = job.annotations()
    if annotations is None:
        return []
    without = sum(annotations.of(photo) is None for photo in photos)
    unused = annotations.without_photo(photos)
    if without == len(photos):
        raise AnnotationError(
            f"{annotations.source}: is about none of the {len(photos)} photos: photos are recognised by their file "
            f"names, such as {Path(photos[0]).name}, and there it has {unused[0]}"
        )
    remarks = [f"{annotations.source}: says nothing about {without} of {len(photos)} photos"] if without else []
    if unused:
        remarks.append(f"{annotations.source}: is also about {len(unused)} photos that are not audited")
    return remarks


def _rows(job: Job, source: Joined, names: Sequence[str], options: AuditOptions) -> Iterator[Row]:
    workers = min(options.workers, max(1, len(names)))
    if options.ray is None:
        return rows_of(job, source.photos(names), workers)
    from .cluster import rows_on_cluster

    return rows_on_cluster(job, source, names, options.ray, workers)


def _left(source: Source, names: Sequence[str], done: Mapping[str, Row], folder: Path) -> list[str]:
    """Names of the photos that have no row yet, or one with an error, which may have passed.

    Raises `AuditError` where rows are of other photos, or of other content.
    """
    strange = sorted(done.keys() - set(names))
    if strange:
        raise AuditError(
            f"{folder}: holds an audit of {len(strange)} more photos, such as {strange[0]}: name them too with "
            "--images, or choose another folder with -o"
        )
    good = {name for name, row in done.items() if not row["error"]}
    for photo in source.photos(good):
        row = done[photo.name]
        if _content(photo) != row["sha256"]:
            what = "has changed"
        elif photo.about and not photo.about.items() <= json.loads(row["slice"] or "{}").items():
            what = "is described in other words"
        else:
            continue
        raise AuditError(f"{photo.name}: {what} since it was audited into {folder}: choose another folder with -o")
    return [name for name in names if name not in good]


def _content(photo: Photo) -> str:
    try:
        return photo.sha256()
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
