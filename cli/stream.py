"""``cfcam stream``: a video with the map on every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import DONE, DONE_IN_PART, note, print_json, print_rows, progress, stderr
from .options import AllowFallback, Json, ProductFile, ProductProvider, Threads

if TYPE_CHECKING:
    from ..runtime.videos import VideoReport

__all__ = ["stream"]


def stream(
    model: ProductFile,
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A video, rtsp://... or a device (/dev/video0).")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT.mp4", help="The annotated video (H.264).")],
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", metavar="INDEX|LABEL", help="Class to explain (default: each frame's top)."),
    ] = None,
    follow: Annotated[
        int | None,
        typer.Option(
            "--follow", metavar="N", min=1, help="Keep a class until another was the top one N times running."
        ),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option(
            "--smooth-frames",
            metavar="X",
            min=0,
            max=0.99,
            help="Share of the map before in the one shown (default: 0; a smoothed map is not this frame's alone).",
        ),
    ] = 0,
    budget: Annotated[
        float | None,
        typer.Option("--budget-ms", metavar="B", help="Leave out frames that waited longer; implies --drop latest."),
    ] = None,
    drop: Annotated[
        Literal["latest", "none"] | None,
        typer.Option(
            "--drop", help="latest: the newest frame wins, and a file is read at its own speed; none (default) waits."
        ),
    ] = None,
    every: Annotated[int, typer.Option("--every", metavar="N", min=1, help="Only every N-th frame.")] = 1,
    json_lines: Annotated[
        str | None,
        typer.Option("--json-lines", metavar="FILE", help="Write what is known of each frame, line by line."),
    ] = None,
    json: Json = False,
    provider: ProductProvider = None,
    allow_fallback: AllowFallback = False,
    threads: Threads = None,
) -> None:
    """Explain a video or a camera, frame by frame."""
    from ..runtime.explainer import Explainer
    from ..runtime.stream import annotate_video
    from ..runtime.targets import resolve_target
    from ..runtime.videos import named

    with Explainer(model, provider=provider, allow_fallback=allow_fallback or None, threads=threads) as explainer:
        wanted = None if target is None else resolve_target(target, explainer.spec.output)
        with progress() as display:
            task = display.add_task("explaining", total=None)

            def watch(report: VideoReport) -> None:
                rate = f"explaining, {report.frames_per_second:.1f} frames/s"
                total = report.expected if (report.expected or 0) >= report.read else None  # it promised too little
                display.update(task, completed=report.read, total=total, description=rate)

            report = annotate_video(
                explainer.explain,
                source,
                output,
                target=wanted,
                follow=follow,
                smooth=smooth,
                budget_ms=budget,
                drop=drop or ("none" if budget is None else "latest"),
                every=every,
                json_lines=json_lines,
                progress=watch,
            )
    found = report.to_dict()
    if json:
        print_json({"schema": "cfcam.stream/1", "output": output, **found})
    else:
        print_rows(("", ""), [(name.replace("_", " "), str(value)) for name, value in found.items()], head=False)
    if report.stopped:
        note(f"cfcam: stopped; what came until then is in {output}", stderr())
    if report.ended_early:
        note(f"cfcam: warning: {named(source)}: {report.ended_early}; what came before is in {output}", stderr())
    if report.damaged:
        count = "1 frame was" if report.damaged == 1 else f"{report.damaged} frames were"
        note(f"cfcam: warning: {named(source)}: {count} damaged, and left out or partly made up", stderr())
    raise typer.Exit(DONE_IN_PART if report.ended_early or report.damaged else DONE)
