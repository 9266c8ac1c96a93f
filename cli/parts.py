"""``cfcam parts``: what clustering, filter, guide and contrast do to the maps of real photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import DONE, DONE_IN_PART, NOT_DONE, Bold, print_json, print_rows, progress
from .options import AllowFallback, Json, MaxPixels, ProductFile, ProductProvider, Threads, json_object
from .sources import find_each, report_failures, taken_alone

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..calibration.parts import LayerSample, PartsReport
    from ..runtime.explainer import Explainer
    from ..runtime.methods.layer_fusion import FileForm

__all__ = ["SCHEMA", "parts"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.parts/1"

_TITLES = {
    "hirescam": "HiResCAM",
    "random_groups": "random groups",
    "sign_groups": "sign groups only",
    "no_filter": "no filter",
    "no_guide": "no guide",
    "blind_guide": "class-blind guide",
    "no_contrast": "no contrast",
}
#: Columns of parts that a file may lack.
_OF_SOME_FILES = ("no_guide", "blind_guide", "no_contrast")


def parts(
    model: ProductFile,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Images, folders, or patterns ('*.jpg').")],
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="Y.cam.onnx", help="Another file, for instance a middle layer. Repeatable."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", metavar="INDEX|LABEL", help="Class to explain (default: top).")
    ] = None,
    settings: Annotated[
        str | None, typer.Option("--settings", metavar="JSON", help="Settings of cfcam as a JSON object.")
    ] = None,
    json: Json = False,
    max_pixels: MaxPixels = None,
    provider: ProductProvider = None,
    allow_fallback: AllowFallback = False,
    threads: Threads = None,
) -> None:
    """Show what each part of cfcam does to the maps.

    Every column is the correlation of cfcam's map with another one: HiResCAM's; its own over random groups of the same
    sizes; with sign groups as its only groups; without the Gaussian filter; without the detail layer; with a detail
    layer that knows nothing of the class; without contrast. 1 means that the part changes nothing, - that the file has
    no such part, or the map is the same everywhere.
    """
    from ..calibration.parts import measure_parts
    from ..runtime.contract.modelfile import file_sha256
    from ..runtime.explainer import Explainer
    from ..runtime.methods import get_method, make_settings
    from ..runtime.methods.layer_fusion import form_of

    cfcam = get_method("cfcam")
    options = make_settings(cfcam, json_object(settings, "--settings"))
    found, errors = find_each(images)
    models: list[dict[str, Any]] = []

    with progress() as display:
        task = display.add_task("measuring", total=len(found) * (1 + len(also or [])))

        def samples() -> Iterator[LayerSample]:
            for path in [model, *(also or [])]:
                with Explainer(
                    path, provider=provider, allow_fallback=allow_fallback or None, threads=threads
                ) as explainer:
                    form = form_of(cfcam, options, explainer.spec.layers, explainer.spec.fusion)
                    assert form is not None
                    layer = explainer.spec.layer.name
                    models.append(
                        {"path": str(path), "sha256": file_sha256(path), "layer": layer, "form": form.to_dict()}
                    )
                    yield from _samples(explainer, form, found, target, errors, lambda: display.advance(task))

        report = measure_parts(samples(), options)
    if json:
        print_json({"schema": SCHEMA, "models": models, **report.to_dict(), "errors": errors})
    else:
        report_failures(errors)
        if report.rows:
            _print(report)
    raise typer.Exit(DONE if not errors else DONE_IN_PART if report.rows else NOT_DONE)


def _samples(
    explainer: Explainer,
    form: FileForm,
    images: Sequence[Path],
    target: str | None,
    errors: list[dict[str, str]],
    advance: Any,
) -> Iterator[LayerSample]:
    from ..calibration.parts import LayerSample
    from ..runtime.targets import resolve_target

    layer = explainer.spec.layer
    index = resolve_target(target, explainer.spec.output)
    for image, raw in taken_alone(images, lambda image: explainer.tensors([image], index), errors, advance):
        yield LayerSample(
            name=str(image),
            activations=raw.activations[0],
            gradients=raw.gradients[0],
            last=layer.pooled,
            layer=layer.name,
            detail=None if form.detail is None else _first(raw.layers[0].detail),
            rivals=_first(raw.layers[0].rivals) if form.contrast else None,
        )


def _first(arrays: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if arrays is None else arrays[0]


def _print(report: PartsReport) -> None:
    rows: list[list[str]] = []
    known = {name for name in _OF_SOME_FILES for row in report.rows if getattr(row, name) == getattr(row, name)}
    titles = {name: title for name, title in _TITLES.items() if name not in _OF_SOME_FILES or name in known}
    for row in report.rows:
        cells = [_number(getattr(row, column)) for column in titles]
        name = Path(row.name).name + (f" ({row.empty})" if row.empty else "")
        rows.append([name, row.layer, *cells, str(row.counts["clusters"])])
    for layer, columns in report.summary().items():
        cells = [_number(columns[column].median) for column in titles]
        rows.append([Bold("median"), layer, *cells, f"{columns['clusters'].median:g}"])
    numbers = (*titles.values(), "clusters")
    print_rows(("image", "layer", *numbers), rows, right=numbers)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
