"""``cfcam layers``: what can be explained in a model, and what is taken by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import DONE, Bold, note, print_json, print_rows, quiet_stdout, say
from .options import Json, fixed_inputs, json_object, needing

if TYPE_CHECKING:
    from ..export.layers import Layer, LayerList

__all__ = ["SCHEMA", "layers"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.layers/1"


def layers(
    path: Annotated[
        str | None, typer.Argument(metavar="MODEL.onnx", help="Any ONNX classifier, or a file made by `cfcam export`.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="PKG.MODULE:FACTORY", help="Instead: what makes a PyTorch model."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="FILE|DIR", help="State dict of the PyTorch model; for transformers:CLASS its folder."
        ),
    ] = None,
    kwargs: Annotated[
        str | None,
        typer.Option("--kwargs", metavar="JSON", help="Keyword arguments for the factory, as a JSON object."),
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size", metavar="N|HxW", help="Input of the PyTorch model in pixels; 224 when nothing says."
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option("--score", metavar="OUTPUT", help="Output to explain: its name, or a PyTorch model's position."),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option("--channels", metavar="N", min=1, help="Channels of the image; what the model says, else 3."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=VALUE|FILE.npy", help="Fix an input beside the image. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """List the layers that can be explained, with the one that is taken by default.

    A name of the list is what `cfcam export --layer` takes.
    """

    if (path is None) == (model is None):
        raise typer.BadParameter("give either an ONNX file or --model PKG.MODULE:FACTORY")
    of_image = {"channels": channels, "inputs": fixed_inputs(inputs or [])}
    if path is not None:
        found = _onnx(path, score, of_image)
    else:
        found = _torch(str(model), weights, kwargs, input_size, score, of_image)
    if json:
        document = found.to_dict()
        name = {"kind": document.pop("kind"), "name": path or model, "exported": document.pop("exported")}
        print_json({"schema": SCHEMA, "model": name, **document})
    else:
        _print(found)
    raise typer.Exit(DONE)


def _onnx(path: str, score: str | None, of_image: dict[str, Any]) -> LayerList:
    from ..export.layers import list_layers
    from ..runtime.contract.modelfile import read_model_info

    read_model_info(path)  # says best what is wrong with a file
    with needing("listing the layers of an ONNX file", "onnx", "onnx"):
        return list_layers(path, score=score, **of_image)


def _torch(
    model: str,
    weights: str | None,
    kwargs: str | None,
    input_size: str | None,
    score: str | None,
    of_image: dict[str, Any],
) -> LayerList:
    from ..export.layers import list_layers
    from ..export.sources.factory import load
    from ..export.sources.preprocessing import parse_input_size

    arguments = json_object(kwargs, "--kwargs")
    size = parse_input_size(input_size or "224")
    with quiet_stdout():
        loaded = load(model, arguments, weights)
        if input_size is None and loaded.size is not None:
            size = loaded.size
        return list_layers(loaded.module, size, score, **of_image)


def _print(found: LayerList) -> None:
    rows = []
    for layer in found.layers:
        mark = "*" if layer.default else "+" if layer.detail else "x" if layer.refused else ""
        cells = [layer.name, _shape(layer), _sides(layer.grid), layer.operator]
        rows.append([mark, *(map(Bold, cells) if layer.default else cells), str(layer.depth), ", ".join(layer.aliases)])
    print_rows(("", "layer", "shape", "grid", "operator", "depth", "also called"), rows, right=("depth",))
    default = found.default
    if default is not None:
        say(f"* the default: {default.why}")
        if found.detail is not None:
            say("+ its detail layer: finer activations that sharpen the map, without a gradient (--detail)")
    elif found.layers:
        say("no default: no value with a grid is passed by every way to the score; name one")
    else:
        say("no value of this model has a grid of features on the way to the score")
    for reason in dict.fromkeys(layer.refused for layer in found.layers if layer.refused):
        say(f"x no gradient here: {reason}")
    shown = "" if found.output == found.score else f", shown as '{found.output}'"
    say(f"score: '{found.score}', {found.classes} classes{shown}")
    if found.exported is not None:
        note(
            f"cfcam: this file explains layer '{found.exported}' already; for another one export the model that it "
            "was made of"
        )


def _shape(layer: Layer) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in layer.shape)
    tokens = f", {layer.prefix_tokens} prefix" if layer.prefix_tokens else ""
    return f"({sizes}) {layer.layout}{tokens}{', assumed' if layer.assumed else ''}"


def _sides(grid: tuple[Any, Any]) -> str:
    return "x".join("?" if side is None else str(side) for side in grid)
