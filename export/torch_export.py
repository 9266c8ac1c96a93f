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

from ..runtime.contract.spec import SourceSpec
from ..runtime.errors import ArrayError
from .errors import LayerError
from .onnx_export import export_plain, open_plain
from .options import DEFAULT_OPSET, ExportOptions
from .proof.against_pytorch import PyTorchJudge
from .report import ExportReport, Stopwatch
from .sources.labels import check_labels
from .target_layers import asked_layers, for_each_layer, refuse_repeated
from .traced.candidates import Score, Value, find_score, resolve_value
from .traced.capture import Captured, capture
from .traced.convert import plain_to_onnx
from .traced.naming import NamesInExport
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
        example: the input's shape: a tensor (N, C, H, W), the side of a square, or (H, W).
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
    options = (options or ExportOptions()).but(changes)
    options.refuse("a PyTorch module", "view", "input_size")
    watch = Stopwatch(options.progress)
    shape = _example(example)
    with watch("capture"):
        captured = capture(module, shape)
    with watch("layer"):
        score = find_score(captured, options.score, options.multi_label)
        values = _values(captured, score, options)
        known = [value for value in values if isinstance(value, Value)]
    check_labels(options.labels, score.classes)
    with watch("convert"):
        model = plain_to_onnx(captured, options.opset or DEFAULT_OPSET)
        if options.keep_plain is not None:
            write_model(model, options.keep_plain)
        weights = state_dict_sha256(module.state_dict())
        source = SourceSpec(kind="torch", name=options.name or type(module).__name__, sha256=weights)
        plain = open_plain(model, model, options, source, score=model.graph.output[score.position].name)
        names = NamesInExport(captured, plain.graph)
        asked = zip(asked_layers(options.layer), values, strict=True)
        plain.layers, plain.views = zip(*[names.of(value, name) for name, value in asked], strict=True)
        del model, names
    plain.names = [value.name if isinstance(value, Value) else None for value in values]
    plain.tools = ("torch", "onnxscript")
    plain.judge = PyTorchJudge(module, captured, score, known, plain.notes)
    report = export_plain(plain, Path(output), options, watch)
    return replace(report, plain_path=None if options.keep_plain is None else Path(options.keep_plain))


def _values(captured: Captured, score: Score, options: ExportOptions) -> list[Value | LayerError]:
    """The values that the layers are, or why there is no such value: the name may be one of the plain export's."""
    asked = asked_layers(options.layer)
    grids = for_each_layer(options.grid, len(asked), "grids", lambda given: isinstance(given[0], int))
    values: list[Value | LayerError] = []
    for name, grid in zip(asked, grids, strict=True):
        try:
            values.append(resolve_value(captured, score, name, grid))
        except LayerError as error:
            if name is None:
                raise
            values.append(error)
    known = [(name, value.node.name) for name, value in zip(asked, values, strict=True) if isinstance(value, Value)]
    refuse_repeated([name for name, _ in known], [node for _, node in known])
    return values


def _example(example: torch.Tensor | int | Sequence[int]) -> torch.Tensor:
    if isinstance(example, torch.Tensor):
        if example.dim() != 4 or example.dtype != torch.float32:
            raise ArrayError(
                f"example: expected a float32 tensor (N, C, H, W), got {example.dtype} {tuple(example.shape)}"
            )
        return example
    height, width = (example, example) if isinstance(example, int) else tuple(example)
    return torch.empty(1, 3, height, width)
