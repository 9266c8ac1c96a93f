"""``cfcam tune``: settings of cfcam for one network, kept only when they gain on photos they were not found on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import DONE, DONE_IN_PART, note, print_json, print_rows, progress, say, stderr
from .options import AllowFallback, Json, MaxPixels, ModelFile, ProductProvider, Threads, needing
from .sources import find_each, report_failures, taken_alone

if TYPE_CHECKING:
    from ..calibration.tune.search import Tuned

__all__ = ["SCHEMA", "tune"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.tune/1"


def tune(
    model: ModelFile,
    images: Annotated[
        list[str], typer.Option("--images", metavar="DIR", help="Photos: folders, files or patterns. Repeatable.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="Y.cam.onnx", help="The file with the settings in.")],
    budget: Annotated[float, typer.Option("--budget", metavar="MINUTES", min=0, help="Time for the search.")] = 10,
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="N", min=1, help="Photos at most; all stay in memory, 1 MB each or so."),
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the noise and of the intervals.")] = 0,
    json: Json = False,
    max_pixels: MaxPixels = None,
    provider: ProductProvider = None,
    allow_fallback: AllowFallback = False,
    threads: Threads = None,
) -> None:
    """Find settings of cfcam for this network and these photos.

    Half of the photos (by what they show, not by name) are searched on for the best insertion - deletion that keeps
    the map's stability under gradient noise; the other half says what it gained, with a 95 % interval. Settings that
    gain nothing there are not kept: the new file then asks for the defaults. Its contract records how it was found.
    """
    from ..calibration.tune.search import read_sample, refuse_several_layers
    from ..calibration.tune.search import tune as search
    from ..runtime.contract.modelfile import file_sha256
    from ..runtime.explainer import Explainer

    write_tuned = _writer(model, output)
    found, errors = find_each(images)
    with Explainer(model, provider=provider, allow_fallback=allow_fallback or None, threads=threads) as explainer:
        refuse_several_layers(explainer.spec)
        with progress() as display:
            task = display.add_task("reading", total=min(limit, len(found)))
            each = taken_alone(
                found[:limit],
                lambda path: read_sample(explainer, path, str(path)),
                errors,
                lambda: display.advance(task),
            )
            samples = [sample for _, sample in each]
        if not json:
            report_failures(errors)
        with stderr().status("searching") as status:

            def tell(tried: int, settings: dict[str, Any], mean: float) -> None:
                status.update(f"searching: {tried} settings, the last {settings}: {mean:.4f}")

            result = search(explainer, samples, budget=budget * 60, seed=seed, progress=tell)
    used = {one.name: file_sha256(Path(one.name)) for one in samples}
    path = write_tuned(model, output, result, used)
    if json:
        document = {**asdict(result), "output": str(path), "images": used}
        print_json({"schema": SCHEMA, **document, "errors": errors})
    else:
        _print(result)
        note(f"{path}: written")
    raise typer.Exit(DONE if not errors else DONE_IN_PART)


def _writer(model: str, output: str) -> Callable[..., Path]:
    """`write_tuned`, once it is sure that it can be called: before minutes are spent on a search."""
    from ..runtime.contract.modelfile import read_model_info

    with needing("writing the new file", "onnx", "onnx"):
        from ..calibration.tune.file import refuse_overwriting, write_tuned
    read_model_info(model)  # an engine takes no settings
    refuse_overwriting(model, output)
    return write_tuned


def _print(tuned: Tuned) -> None:
    if tuned.best:
        print_rows(("setting", "value"), [(name, str(value)) for name, value in tuned.best.items()])
    how = "" if tuned.complete else ", the search ran out of time"
    say(f"{tuned.tried} settings measured on {tuned.searched} photos in {tuned.seconds:.0f} s{how}")
    if tuned.gain is None:
        say("nothing beat the defaults on these photos: they are kept")
        return
    gain = tuned.gain
    say(
        f"{tuned.measure} on {tuned.held_out} other photos: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] "
        "over the defaults"
    )
    say("settings kept" if tuned.settings else "no gain shown there: the defaults are kept")
