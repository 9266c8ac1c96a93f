"""Options that several commands share, and parsing of option values."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

__all__ = [
    "AllowFallback",
    "Json",
    "ModelFile",
    "ProductFile",
    "ProductProvider",
    "Threads",
    "json_object",
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


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object in an option's value. Raises a usage error otherwise."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: not valid JSON ({error}): {text}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option}: expected a JSON object such as '{{\"name\": 1}}', got: {text}")
    return value
