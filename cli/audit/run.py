"""``cfcam audit run``: measure photos into a folder, and say what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import DONE, DONE_IN_PART, note, print_json, print_rows, progress, say
from ..options import Json, MaxPixels, ProductFile, ProductProvider, needing
from ..sources import find_each, find_some, report_failures

__all__ = ["run"]


def run(
    file: ProductFile,
    images: Annotated[
        list[str],
        typer.Option(
            "--images", metavar="DIR", help="Photos (folder, file, pattern), videos, .parquet, .mcap, .tar. Repeatable."
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Folder for plan, rows and summary.")],
    every: Annotated[
        int | None, typer.Option("--every", metavar="N", min=1, help="Every N-th frame of videos and recordings alone.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget-ms", metavar="MS", help="Milliseconds per photo (default: any).")
    ] = None,
    ladder: Annotated[
        str,
        typer.Option("--ladder", metavar="NAME", help="planned: the same rungs for every photo; adaptive: what fits."),
    ] = "planned",
    clock: Annotated[
        str, typer.Option("--clock", metavar="NAME", help="cpu: processor time; wall: time that passes.")
    ] = "cpu",
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="plan.json", help="Follow the plan of another audit.")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="Method of the maps (default: the file's).")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option("--boxes", metavar="FILE", help="Where the objects are: .json or .csv.")
    ] = None,
    masks: Annotated[
        str | None, typer.Option("--masks", metavar="DIR", help="Where the objects are: NAME.png for photo NAME.")
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", metavar="FILE.csv", help="What is known about photos (column image): slices."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="FILE", help="Tell outliers from this reference profile.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="X.cam.onnx", help="Compare maps with those of the float32 file that it was made from."
        ),
    ] = None,
    against_photos: Annotated[
        int, typer.Option("--against-photos", metavar="N", min=1, help="On a sample of so many photos at most.")
    ] = 200,
    certified: Annotated[
        int | None,
        typer.Option(
            "--certified",
            metavar="CELLS",
            min=1,
            help="Prove how far a photo may change before others are the map's highest cells; slow.",
        ),
    ] = None,
    limits: Annotated[
        str | None, typer.Option("--limits", metavar="FILE.yaml", help="Limits to keep to, or the exit code is 1.")
    ] = None,
    sign: Annotated[
        str | None, typer.Option("--sign", metavar="KEY", help="Sign the folder with this private key.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, max=256, help="Processes.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS|local", help="Workers on a Ray cluster, or by Ray on this machine."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the noise, and of samples.")] = 0,
    provider: ProductProvider = None,
    max_pixels: MaxPixels = None,
    json: Json = False,
) -> None:
    """Measure every photo, as far as the budget goes, and say what was found.

    Run it again to go on where it was stopped. Exit codes: 0 limits met; 1 a limit missed, photos with errors, or
    explanations that do not pass --against; 2 not done.
    """
    for name, value, known in (("--ladder", ladder, ("planned", "adaptive")), ("--clock", clock, ("cpu", "wall"))):
        if value not in known:
            raise typer.BadParameter(f"{name}: expected {' or '.join(known)}, got {value}")
    with needing("an audit", "audit", "pyarrow"):
        from ...calibration.audit import AuditOptions, audit
        from ...calibration.audit.sources.opening import open_sources
    sources, others = open_sources(images, every)
    found, missing = find_each(others) if sources else find_some(others)
    options = AuditOptions(
        budget_ms=budget,
        ladder=ladder,  # type: ignore[arg-type] - checked
        clock=clock,  # type: ignore[arg-type] - checked
        method=method,
        provider=provider,
        plan=_path(plan),
        boxes=_path(boxes),
        masks=_path(masks),
        metadata=_path(metadata),
        reference=_path(reference),
        against=_path(against),
        against_photos=against_photos,
        certified=certified,
        limits=_path(limits),
        sign=_path(sign),
        workers=workers,
        ray=ray,
        seed=seed,
        max_pixels=max_pixels,
    )
    with progress() as display:
        task = display.add_task("auditing", total=None)

        def comparing(done: int, total: int) -> None:
            display.update(task, description="comparing", completed=done, total=total)

        summary = audit(
            Path(file),
            [*found, *sources],
            Path(out),
            options,
            lambda done, total: display.update(task, completed=done, total=total),
            comparing,
        )
    if json:
        print_json({**summary, "missing": missing})
    else:
        report_failures(missing)
        _print(summary, out)
    missed = any(not one["met"] for one in (*summary["limits"], summary["against"]))
    raise typer.Exit(DONE_IN_PART if missing or missed or summary["counts"]["errors"] else DONE)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _print(summary: dict[str, Any], out: str) -> None:
    counts, latency = summary["counts"], summary["latency"]
    for warning in summary["warnings"]:
        note(f"cfcam: warning: {warning}")
    report_failures(summary["errors"])
    if counts["errors"] > len(summary["errors"]):
        note(f"cfcam: {counts['errors'] - len(summary['errors'])} more photos with errors: see the rows")
    say(f"{counts['audited']} of {counts['photos']} photos audited: {', '.join(summary['plan']['rungs'])}")
    rows = [
        (
            name,
            f"{one['count']} of {one['of']}",
            "-" if one["rate"] is None else f"{one['rate']:.1%}",
            "-" if one["rate"] is None else f"{one['low']:.1%} to {one['high']:.1%}",
        )
        for name, one in summary["findings"].items()
    ]
    print_rows(("finding", "photos", "rate", "95 %"), rows, right=("photos", "rate", "95 %"))
    budget = "" if latency["budget_ms"] is None else f"; {latency['over']} over {latency['budget_ms']:g} ms"
    say(f"{latency['clock']} time per photo: median {latency['p50_ms']:.1f} ms, p99 {latency['p99_ms']:.1f} ms{budget}")
    found = summary["certified"]
    if found is not None and found["why_not"] is None:
        say(f"the map's {found['cells']} highest cells provably stay so on {found['proved']} of {found['of']} photos")
    for limit in summary["limits"]:
        value = "not measured" if limit["value"] is None else f"{limit['value']:.4g}"
        say(f"{'met   ' if limit['met'] else 'MISSED'} {limit['name']}: {value}, limit {limit['limit']:g}")
    if summary["against"]["by"] != "itself":
        say(summary["against"]["text"])
    note(f"written: {Path(out) / 'report.html'}, and the rows beside it")
