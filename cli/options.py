"""Options that several commands share, and parsing of option values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from ..runtime.shown import shown

__all__ = [
    "AllowFallback",
    "Json",
    "MaxPixels",
    "ModelFile",
    "ProductFile",
    "ProductProvider",
    "Threads",
    "check_name",
    "fixed_inputs",
    "json_object",
    "needing",
]

ModelFile = Annotated[str, typer.Argument(metavar="X.cam.onnx", help="A file made by `cfcam export`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout and nothing else.")]
ProductFile = Annotated[
    str, typer.Argument(metavar="X.cam.onnx|PRODUCT", help="A file made by `cfcam export` or `cfcam build`.")
]
ProductProvider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="What runs the model: cpu, cuda, tensorrt, rtx, ... (default: what a product's manifest says, else cpu).",
    ),
]
AllowFallback = Annotated[
    bool, typer.Option("--allow-fallback", help="Take the CPU when the provider cannot start; otherwise an error.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads per operator (default: all cores).")
]


def _limit_photos(context: typer.Context, pixels: int | None) -> int | None:
    if pixels is not None:
        from ..runtime.photos.images import pixel_limit

        context.with_resource(pixel_limit(pixels))  # until the command is done
    return pixels


MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        callback=_limit_photos,
        help="Refuse photos with more pixels than this, which saves memory (default: 40 million).",
    ),
]


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object in an option's value. Raises a usage error otherwise."""
    if text is None:
        return None
    from ..runtime.errors import MethodError
    from ..runtime.json_reader import parse_json

    value = parse_json(text, f"{option} {shown(text)}", MethodError)
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option}: expected a JSON object such as '{{\"name\": 1}}', got: {shown(text)}")
    return value


def check_name(file: str | None, option: str, *endings: str) -> None:
    """Before minutes are spent on what goes into `file`: its name and place. Raises a usage error or `OutputError`."""
    from .outputs import check_writable

    if file and not file.lower().endswith(endings):
        names = " or ".join(endings)
        raise typer.BadParameter(f"{option}: expected a name that ends in {names}, got {file}")
    check_writable(file)


def fixed_inputs(texts: list[str]) -> dict[str, Any] | None:
    """Values of inputs by name, as ``--input`` gives them. Raises `ExportError`."""
    if not texts:
        return None
    with needing("fixing an input", "onnx", "onnx"):
        from ..export.sources.fixed_inputs import parse_input
    return dict(map(parse_input, texts))


@contextmanager
def needing(what: str, extra: str, *packages: str) -> Iterator[None]:
    """A block of imports: raises `MissingDependencyError` where one of `packages` is not installed.

    Args:
        what: what cannot be done without it, as the message says it.
        extra: of cfcam, that brings the packages.
        packages: by the names that they are imported by.
    """
    from ..runtime.errors import MissingDependencyError

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages:
            raise
        raise MissingDependencyError(f"{what} needs {error.name}: install cfcam[{extra}]") from error
