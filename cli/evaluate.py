"""``cfcam evaluate``: which method explains this model best, on these photos, and how sure that is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import DONE, DONE_IN_PART, NOT_DONE, Bold, note, print_json, print_rows, progress, say
from .options import AllowFallback, Json, MaxPixels, ProductFile, ProductProvider, Threads, check_name
from .sources import failure, find_some, report_failures

if TYPE_CHECKING:
    from ..calibration.evaluate import Annotations, Evaluation, Journal, Plan, Table
    from ..runtime.explainer import Explainer

__all__ = ["evaluate"]


def evaluate(
    model: ProductFile,
    images: Annotated[
        list[str], typer.Option("--images", metavar="DIR", help="Photos: a folder, file or pattern. Repeatable.")
    ],
    boxes: Annotated[
        str | None, typer.Option("--boxes", metavar="FILE", help="Where the objects are: .json (also COCO's) or .csv.")
    ] = None,
    masks: Annotated[
        str | None, typer.Option("--masks", metavar="DIR", help="Masks NAME.png of the objects in photos NAME.*.")
    ] = None,
    mask_value: Annotated[
        int | None, typer.Option("--mask-value", metavar="N", help="The object's value in masks (default: all but 0).")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B,...", help="Methods; the others are compared with the first. Or 'all'."),
    ] = None,
    baselines: Annotated[
        str | None, typer.Option("--baselines", metavar="A,B,...", help="Rows that explain nothing; 'all', 'none'.")
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option("--measures", metavar="A,B,...", help="Measures by name, 'cheap' (the default) or 'all'."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="INDEX|LABEL",
            help="Class to explain: 'annotated' takes the boxes' (default: top).",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N photos.")] = None,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=1, help="Steps of the insertion and deletion curves.")
    ] = 8,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of noise, bootstrap and mosaics.")] = 0,
    json: Json = False,
    max_pixels: MaxPixels = None,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE.html", help="Write everything into one HTML file.")
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", metavar="FILE.png", help="Write a picture of photos and methods (.png, .jpg)."),
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option("--journal", metavar="FILE", help="Keep what is measured here; 'none' for no journal at all."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Images per inference.")] = 8,
    provider: ProductProvider = None,
    allow_fallback: AllowFallback = False,
    threads: Threads = None,
) -> None:
    """Measure methods on your own model and photos.

    Means with 95 % intervals over photos, differences from the first method, and rows that explain nothing to compare
    with. Explained is the top class of each photo unless --target is given. A run that was stopped goes on where it
    was.
    """
    from ..calibration.evaluate import evaluate as run
    from ..calibration.evaluate import make_plan, make_table
    from ..runtime.explainer import Explainer

    if boxes and masks:
        raise typer.BadParameter("give --boxes or --masks, not both")
    check_name(report, "--report", ".html", ".htm")
    check_name(sheet, "--sheet", ".png", ".jpg", ".jpeg")
    found, errors = find_some(images)
    annotations = _annotations(boxes, masks, mask_value, found)
    if annotations is not None:
        errors += [
            failure(
                annotations.source, ValueError(f"{annotations.source}: names {name}, which is not among the photos")
            )
            for name in annotations.without_photo(found)
        ]
    workers, threads = _shared_out(model, provider, threads)
    with Explainer(model, provider=provider, allow_fallback=allow_fallback or None, threads=threads) as explainer:
        plan = make_plan(
            explainer,
            methods=_names(methods),
            baselines=_names(baselines),
            measures=_names(measures),
            target=target,
            seed=seed,
            steps=steps,
            annotated=annotations is not None,
        )
        with _journal(journal, explainer, plan) as entries:
            with progress() as display:
                task = display.add_task("measuring", total=min(len(found), limit or len(found)))
                evaluation = run(
                    explainer,
                    found[:limit],
                    plan,
                    annotations=annotations,
                    journal=entries,
                    batch=batch,
                    workers=workers,
                    progress=lambda done, _total: display.update(task, completed=done),
                )
            errors += evaluation.failures
            table = make_table(evaluation, seed=seed)
            if not json:
                report_failures(errors)
                _remarks(evaluation, entries)
            if evaluation.photos:
                _files(explainer, evaluation, table, report, sheet)
    if json:
        print_json({**evaluation.to_dict(), "table": table.to_dict(), "errors": errors})
    elif evaluation.photos:
        _print(evaluation, table)
        for path in (report, sheet):
            if path:
                note(f"written: {path}")
    raise typer.Exit(DONE if not errors else DONE_IN_PART if evaluation.photos else NOT_DONE)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _shared_out(model: str, provider: str | None, threads: int | None) -> tuple[int, int | None]:
    """How many inferences run at once, and the threads of each: on a CPU, all cores unless threads were asked for.

    provider, threads: None for what the product's manifest says.
    """
    from ..calibration.workers import share_cores
    from ..runtime.contract.manifest import Manifest

    manifest = Manifest.read(model)
    if manifest is not None:
        own = manifest.engine_options
        provider = provider or (manifest.backend.name if manifest.is_engine else own.provider)
        threads = threads or own.threads
    return share_cores(provider, threads)


def _annotations(
    boxes: str | None, masks: str | None, mask_value: int | None, photos: Sequence[Path]
) -> Annotations | None:
    from ..calibration.evaluate import AnnotationError, read_boxes, read_masks

    if not boxes and not masks:
        return None
    found = read_boxes(boxes) if boxes else read_masks(masks or "", mask_value)
    if all(found.of(photo) is None for photo in photos):
        raise AnnotationError(f"{found.source}: fits none of the {len(photos)} photos: names of files must be equal")
    return found


def _journal(asked: str | None, explainer: Explainer, plan: Plan) -> AbstractContextManager[Journal | None]:
    """The journal that was asked for, which stays; or one in the user's cache, which goes when the run is done."""
    from ..calibration.evaluate import Journal, cached_journal, run_identity

    if asked == "none":
        return nullcontext()
    return Journal(asked) if asked else cached_journal(run_identity(explainer, plan))


def _remarks(evaluation: Evaluation, journal: Journal | None) -> None:
    measured = sum(one.unit == "photo" for one in evaluation.photos)
    if evaluation.resumed and journal is not None:
        note(f"{evaluation.resumed} of {measured} photos were already measured ({journal.path})")
    if journal is not None and journal.damaged:
        note(f"{journal.path}: {journal.damaged} lines could not be read, their photos were measured again")
    for warning in evaluation.warnings:
        note(f"cfcam: warning: {warning}")


def _files(explainer: Explainer, evaluation: Evaluation, table: Table, report: str | None, sheet: str | None) -> None:
    from ..calibration.evaluate import machine, pick_cases, render_report, save_report, save_sheet

    if report:
        command = shlex.join(["cfcam", *sys.argv[1:]])
        cases = pick_cases(explainer, evaluation)
        save_report(report, render_report(evaluation, table, cases, command=command, about=machine()))
    if sheet:
        save_sheet(sheet, explainer, evaluation)


def _print(evaluation: Evaluation, table: Table) -> None:
    """A table per measure, what differs, and what must be said beside it."""
    from ..calibration.evaluate import CONTROLS

    marks = {(one.row, one.column): "+" if one.better else "-" for one in table.comparisons if one.shown}
    for group, columns in evaluation.groups.items():
        if not any(table.cells[row][column].count for row in evaluation.rows for column in columns):
            say(f"{group}: nothing could be measured\n")
            continue
        heads = {column: f"{column} ({evaluation.columns[column].better})" for column in columns}
        rows = []
        for row in evaluation.rows:
            name = f"{row} ({'control' if row in CONTROLS else 'baseline'})" if row in evaluation.baselines else row
            cells = [_cell(table, row, column, marks.get((row, column), " ")) for column in columns]
            rows.append([name, f"{evaluation.ms(row):.1f}", *cells])
        print_rows(("method", "ms", *heads.values()), rows, title=group, right=("ms", *heads.values()))
        say()
    shown = sum(one.shown for one in table.comparisons)
    say(
        f"* best mean of a method; + and - better or worse than {table.reference}: {shown} of {len(table.comparisons)} "
        "comparisons, with Holm's correction, show a difference"
    )
    for form in evaluation.forms:
        say(f"maps of {form}")
    for remark in table.notes:
        say(f"note: {remark}")


def _cell(table: Table, row: str, column: str, mark: str) -> str:
    cell = table.cells[row][column]
    if not cell.count:
        return "-  "
    between = "" if cell.low is None else f" [{cell.low:.3f}, {cell.high:.3f}]"
    best = row in table.best.get(column, ())
    return Bold(f"*{cell.mean:.3f}{between} {mark}") if best else f"{cell.mean:.3f}{between} {mark}"
