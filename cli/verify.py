"""``cfcam verify``: does an engine, or a file in another precision, still explain as the float32 file does?"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import DONE, DONE_IN_PART, note, print_json, progress
from .options import AllowFallback, Json, MaxPixels, ProductProvider, Threads, check_name, json_object
from .sources import find_some, report_failures

if TYPE_CHECKING:
    from ..calibration.verify import VerifyReport
    from ..calibration.verify.layerwise import LayerwiseReport

__all__ = ["verify"]


def verify(
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The file or engine to check.")],
    against: Annotated[
        str, typer.Option("--against", metavar="X.cam.onnx", help="The float32 file that it was made from.")
    ],
    images: Annotated[
        list[str],
        typer.Option("--images", metavar="DIR", help="Photos to compare on: folder, file or pattern. Repeatable."),
    ],
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N photos.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="Method of both sides (default: the reference's).")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option("--settings", metavar="JSON", help="Settings of that method as a JSON object, for both sides."),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="NAME", help="Of several target layers, check this one alone.")
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            "--thresholds",
            metavar="JSON",
            help="Limits that differ from those of the candidate's precision, such as '{\"last_score\": 0.97}'.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the jitter and the noise map.")] = 0,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Photos per inference.")] = 8,
    json: Json = False,
    max_pixels: MaxPixels = None,
    report: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE.html", help="Write figures and the least alike photos as HTML."),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", metavar="FILE.png", help="Write the least alike photos side by side (.png, .jpg)."),
    ] = None,
    layerwise: Annotated[
        bool,
        typer.Option("--layerwise", help="Also compare the values inside of both files, and name where they part."),
    ] = False,
    provider: ProductProvider = None,
    allow_fallback: AllowFallback = False,
    threads: Threads = None,
) -> None:
    """Check that explanations survived a change of precision or engine.

    Top-1 agreement and logits; and for every target layer correlation, overlap and peaks of the maps, the channels'
    groups, and how much of the class sensitivity is kept, against the float32 file on the CPU. The columns beside
    them say what such figures mean: float32 on a jittered photo, the map of another class, and noise.
    """
    from ..calibration.verify import verify as run
    from .verify_tables import print_layerwise, print_report

    check_name(report, "--report", ".html", ".htm")
    check_name(sheet, "--sheet", ".png", ".jpg", ".jpeg")
    limits = json_object(thresholds, "--thresholds")
    options = json_object(settings, "--settings")
    found, errors = find_some(images)
    with progress() as display:
        task = display.add_task("comparing", total=len(found[:limit]))
        result = run(
            candidate,
            against,
            found[:limit],
            limits,
            method=method,
            settings=options,
            layer=layer,
            provider=provider,
            allow_fallback=allow_fallback,
            threads=threads,
            batch=batch,
            seed=seed,
            pictures=4 if report or sheet else 0,
            progress=lambda done, _total: display.update(task, completed=done),
        )
    inside = None
    if layerwise:
        from ..calibration.verify.layerwise import compare_layerwise

        inside = compare_layerwise(candidate, against, found)
    written = _files(result, report, sheet, inside)
    missing: list[dict[str, Any]] = [{**one, "candidate": False} for one in errors]
    document = result.to_dict()
    document["errors"] = missing + document["errors"]
    if inside is not None:
        document["layerwise"] = inside.to_dict()
    if json:
        print_json(document)
    else:
        report_failures(document["errors"])
        for warning in result.warnings:
            note(f"cfcam: warning: {warning}")
        print_report(result)
        if inside is not None:
            print_layerwise(inside)
        for path in written:
            note(f"written: {path}")
        if not result and not written:
            note("the least alike photos, side by side: --report FILE.html or --sheet FILE.png")
    raise typer.Exit(DONE if result and not document["errors"] else DONE_IN_PART)


def _files(result: VerifyReport, report: str | None, sheet: str | None, layerwise: LayerwiseReport | None) -> list[str]:
    """Writes what was asked for, and says what was written."""
    written = []
    if report:
        result.save_html(report, command=shlex.join(["cfcam", *sys.argv[1:]]), layerwise=layerwise)
        written.append(report)
    if sheet and result.cases:  # none where all maps are equal
        result.save_sheet(sheet)
        written.append(sheet)
    return written
