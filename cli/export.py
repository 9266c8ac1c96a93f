"""``cfcam export``: a classifier in, a file with its gradients inside out."""

from __future__ import annotations

from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .exitcodes import DONE, DONE_IN_PART
from .options import json_object

if TYPE_CHECKING:
    from ..export.report import ExportReport

__all__ = ["BUILT_IN_LABELS", "export", "export_model", "print_report", "read_label_option"]

#: Label lists that come with the package, by the name that ``--labels`` takes.
BUILT_IN_LABELS = {"imagenet": "imagenet1k.txt"}


def export(
    model: Annotated[
        str,
        typer.Option("--model", metavar="PKG.MODULE:FACTORY", help="Function or class that makes the PyTorch model."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="X.cam.onnx", help="The file to write.")],
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="FILE", help="State dict: .safetensors, or .pt with tensors only."),
    ] = None,
    kwargs: Annotated[
        str | None,
        typer.Option("--kwargs", metavar="JSON", help="Keyword arguments for the factory, as a JSON object."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="Target layer, for instance layer4.1 or act:1 (second call)."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="FILE", help="Class names: text or JSON file, or 'imagenet'.")
    ] = None,
    label_offset: Annotated[
        int, typer.Option("--label-offset", metavar="K", min=0, help="Classes in front of those that have labels.")
    ] = 0,
    input_size: Annotated[
        str, typer.Option("--input-size", metavar="N|HxW", help="Input height and width in pixels.")
    ] = "224",
    preset: Annotated[
        Literal["torchvision", "tf", "lite"],
        typer.Option("--preset", help="Preprocessing that the options below change."),
    ] = "torchvision",
    scale: Annotated[
        str | None, typer.Option("--scale", metavar="S", help="x = (p * S - mean) / std, p in 0..255; 1/255 is fine.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", metavar="R,G,B", help="In the units of p * scale, always in this order.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="As --mean.")] = None,
    color: Annotated[
        Literal["rgb", "bgr"] | None, typer.Option("--color", help="Channel order that the model takes.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option("--resize", metavar="shorter:N|stretch|pad", help="How the photo is scaled.")
    ] = None,
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "lanczos"] | None,
        typer.Option("--interpolation", help="Filter of the scaling."),
    ] = None,
    crop: Annotated[
        Literal["center", "none"] | None, typer.Option("--crop", help="What happens to the rest after scaling.")
    ] = None,
    opset: Annotated[int, typer.Option("--opset", metavar="N", help="ONNX operator set.")] = 18,
) -> None:
    """Export a classifier with its gradients inside."""
    from ..export.loading import load_model
    from ..export.preprocessing import parse_input_size, parse_numbers, parse_resize
    from ..export.preprocessing import preset as named_preset
    from ..runtime.errors import OutputError
    from .console import note

    if Path(output).is_dir() or output.endswith("/"):
        raise OutputError(f"{output}: is a folder, give a file name such as {Path(output) / 'model.cam.onnx'}")
    preprocessing = named_preset(preset).override(
        scale=None if scale is None else parse_numbers(scale, "--scale", 1)[0],
        mean=None if mean is None else parse_numbers(mean, "--mean"),
        std=None if std is None else parse_numbers(std, "--std"),
        color=color,
        interpolation=interpolation,
        crop=crop,
        **({} if resize is None else parse_resize(resize)),
    )
    height, width = parse_input_size(input_size)
    preprocessing.input_spec("image", height, width)  # what cannot work fails before the model is loaded
    names = read_label_option(labels, label_offset)
    arguments = json_object(kwargs, "--kwargs")
    for doubt in preprocessing.doubts():
        note(f"cfcam: warning: {doubt}")
    with _quiet_stdout():
        module = load_model(model, arguments, weights)
    report = export_model(
        module,
        (height, width),
        output,
        layer=layer,
        preprocessing=preprocessing,
        labels=names,
        label_offset=label_offset,
        name=model,
        opset=opset,
    )
    print_report(report)
    raise typer.Exit(DONE if report.proof else DONE_IN_PART)


def export_model(module: Any, size: tuple[int, int], output: str | Path, **options: Any) -> ExportReport:
    """`export_torch` with a spinner that names the pass it is at."""
    from ..export import export_torch
    from .console import stderr

    console = stderr()
    with _quiet_stdout():
        if not console.is_terminal:
            return export_torch(module, size, output, **options)
        with console.status("exporting") as status:
            return export_torch(
                module, size, output, progress=lambda name: status.update(f"exporting: {name}"), **options
            )


def read_label_option(labels: str | None, offset: int = 0) -> tuple[str, ...] | None:
    """The labels that ``--labels`` asks for: a file, or a built-in list. Raises `ExportError`."""
    from ..export.labels import read_labels

    if labels is None:
        return None
    if labels in BUILT_IN_LABELS and not Path(labels).exists():
        from .data import data_file

        with data_file(BUILT_IN_LABELS[labels]) as path:
            return read_labels(path, offset)
    return read_labels(labels, offset)


def print_report(report: ExportReport) -> None:
    """The proof and what was written, on stdout."""
    from rich.text import Text

    from .console import file_size, note, print_table, rich_table

    table = rich_table("check", "value", "limit", "", right=("value", "limit"))
    for check in report.proof.checks:
        limit = f"{'>=' if check.at_least else '<='} {check.limit:.3g}"
        table.add_row(Text(check.name), f"{check.value:.3g}", limit, "ok" if check.ok else "FAILED")
    print_table(table)
    spec = report.spec
    size = file_size(Path(report.path).stat().st_size)
    print(
        f"{report.path}: {size}, layer {spec.layer.name} ({spec.layer.channels} channels, "
        f"{spec.layer.grid[0]}x{spec.layer.grid[1]}), {spec.output.classes} classes, "
        f"{sum(report.seconds.values()):.1f} s"
    )
    for warning in report.warnings:
        note(f"cfcam: warning: {warning}")


def _quiet_stdout() -> redirect_stdout[Any]:
    """What models and libraries print goes to stderr: stdout is for results."""
    import sys

    return redirect_stdout(sys.stderr)
