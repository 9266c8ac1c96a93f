"""`export_torch`: a PyTorch module is captured, converted to plain ONNX, and exported like any other ONNX model.

What only PyTorch knows is carried over: which values the target layers are, how they hold their grids, and what eager
autograd says of the gradients.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..runtime.checks import check_path, expect
from ..runtime.contract.spec import SourceSpec
from ..runtime.errors import OutputError
from .axes.layout import raster
from .errors import ExportError, LayerError
from .graph import Graph
from .onnx_export import PlainClassifier, export_plain, open_plain
from .options import DEFAULT_OPSET, ExportOptions
from .proof.against_pytorch import PyTorchJudge
from .report import ExportReport, Stopwatch
from .reverse import Score
from .reverse.candidates import Candidate, candidates, choose_layer
from .reverse.detail import AUTO, NONE, choose_detail, detail_asked
from .scores import asked_score
from .sources.wrapped import in_float32, unwrapped
from .target_layers import asked_layers, for_each_layer, refuse_repeated
from .traced.capture import capture
from .traced.convert import plain_to_onnx
from .traced.image import example_image, fixed_inputs
from .traced.names import Names
from .traced.outputs import check_scores, output_place
from .writing import state_dict_sha256, write_model

__all__ = ["export_torch"]


def export_torch(
    module: nn.Module,
    example: torch.Tensor | int | Sequence[int],
    output: str | os.PathLike[str],
    options: ExportOptions | None = None,
    **changes: Any,
) -> ExportReport:
    """Export `module` with its explanation inside, prove the file, and write it to `output`.

    The file has the plain model's outputs (same names, same order), and more: see `export_onnx`. The batch is dynamic.

    Args:
        module: a classifier of one image batch (N, C, H, W) float32; it is run in eval mode and
            left as it was. It may return a tensor, or a tuple, list or dict of tensors.
        example: the input's shape: a tensor (N, C, H, W), the side of a square, or (H, W). Without a tensor the image
            has `channels`, or three, or where the module does not run on three, as many as its first convolution takes.
        output: the file to write.
        options: what is asked for.
        changes: fields of `ExportOptions`, which win over `options`.

    Returns:
        What was written, and what was measured.

    Raises:
        ExportError: the module cannot be captured or converted.
        LayerError: no such layer.
        UnsupportedOperatorError: an operator behind the layer has no derivative.
        ProofError: the file would be wrong; nothing is written.
        OutputError: cannot be written.
        MissingDependencyError: no ONNX Runtime.
    """
    expect("export_torch", "module", module, nn.Module, error=ExportError)
    expect("export_torch", "options", options, ExportOptions, None, error=ExportError)
    output = check_path("export_torch", output, OutputError, "output")
    options = (options or ExportOptions()).but(changes)
    options.refuse("a PyTorch module", "view", "input_size")
    watch = Stopwatch(options.progress)
    module, notes = in_float32(unwrapped(module))
    with fixed_inputs(module, options.inputs or {}):
        return _export(module, example, Path(output), options, watch, notes)


def _export(
    module: nn.Module,
    example: torch.Tensor | int | Sequence[int],
    output: Path,
    options: ExportOptions,
    watch: Stopwatch,
    notes: tuple[str, ...],
) -> ExportReport:
    """`export_torch` of a module that takes the image alone. notes: what is said already."""
    shape = example_image(module, example, options.channels)
    with watch("capture"):
        captured = capture(module, shape)
    place = None if options.score is None else output_place(captured.output_names, options.score)
    check_scores(captured.outputs, place, captured.image.meta["val"].shape[0])
    with watch("convert"):
        model = plain_to_onnx(captured, options.opset or DEFAULT_OPSET)
        if options.keep_plain is not None:
            write_model(model, options.keep_plain)
        weights = state_dict_sha256(module.state_dict())
        source = SourceSpec(kind="torch", name=options.name or type(module).__name__, sha256=weights)
        asked_output = None if place is None else model.graph.output[place].name
        fixed = [f"input '{name}' of forward is fixed, and kept in the file" for name in options.inputs or {}]
        of_image = replace(options, inputs=None, channels=shape.shape[1])
        plain = open_plain(model, model, of_image, source, score=asked_output)
        plain.notes += fixed
        del model
    with watch("layer"):
        plain.score = score = asked_score(plain.graph, asked_output, options, plain.image.batch)
        names = Names(captured, plain.graph, score.base)
        asked = asked_layers(options.layer)
        grids = for_each_layer(options.grid, len(asked), "grids", lambda given: isinstance(given[0], int))
        layers = [_layer(plain.graph, score, names, *one) for one in zip(asked, grids, strict=True)]
        plain.layers, plain.views = [layer.name for layer in layers], [layer.axes for layer in layers]
        refuse_repeated(asked, plain.layers)
        plain.names = [names.shown(value, name) for value, name in zip(plain.layers, asked, strict=True)]
        _choose_detail(plain, score, layers, names, options.detail)
        known = {name: (one.axes, names.node(one.name)) for name, one in zip(plain.names, layers, strict=True)}
    plain.tools = ("torch", "onnxscript")
    plain.notes.extend(notes)
    plain.judge = PyTorchJudge(module, captured, known, names.node(score.base), plain.notes, score.columns, score.signs)
    del names
    report = export_plain(plain, output, options, watch)
    return replace(report, plain_path=None if options.keep_plain is None else Path(options.keep_plain))


def _choose_detail(
    plain: PlainClassifier, score: Score, layers: Sequence[Candidate], names: Names, asked: str | None
) -> None:
    """Put the detail layer into `plain`, with the name that it has in PyTorch."""
    asked = detail_asked(asked, layers)
    asked = asked if asked in (AUTO, NONE) else names.value(asked)
    detail, note = choose_detail(plain.graph, score, layers[0], asked, lambda value: names.all(value)[0])
    plain.detail = detail or NONE
    plain.notes += [] if note is None else [note]
    plain.detail_name = None if detail is None else names.all(detail.name)[0]


def _layer(graph: Graph, score: Score, names: Names, asked: str | None, grid: tuple[int, int] | None) -> Candidate:
    """The value of the plain export that a layer is; its tokens must have places that are known, or given by `grid`."""
    default = next((c for c in candidates(graph, score, anywhere=True) if c.default), None) if asked is None else None
    layer = default or choose_layer(graph, score, None if asked is None else names.value(asked), grid=grid)
    shown = names.all(layer.name)[0]
    given = None if grid is None or not layer.assumed else raster(*grid, int(layer.shape[1] or 0))
    if layer.assumed and layer.layout == "NTC" and given is None:
        raise LayerError(
            f"layer '{shown}' has shape {layer.shape}; the place of its tokens in the image is not "
            "known: if they are in reading order, give their grid with --grid HxW (grid=(H, W) in Python)"
        )
    layer = layer if given is None else replace(layer, axes=given)
    if grid is not None and layer.grid != tuple(grid):
        raise LayerError(f"layer '{shown}' has a grid of {layer.grid[0]}x{layer.grid[1]}, not {tuple(grid)}")
    return layer
