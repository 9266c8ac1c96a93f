"""Captured programs become ONNX models.

The plain program, and the part of it that is proved in float64, go through the same converter with the same options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch

from ..errors import ExportError
from ..options import DEFAULT_OPSET
from .attention import for_converter
from .capture import Captured, quiet_torch
from .float64 import TailProgram

__all__ = ["plain_to_onnx", "tail_to_onnx"]

# The lowest IR version for opsets up to 20, so that older runtimes open the file.
_IR_VERSION = {18: 9, 19: 9, 20: 9}


def plain_to_onnx(captured: Captured, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """The model as PyTorch itself exports it, with its own names. Raises `ExportError`."""
    model = _convert(for_converter(captured.program), opset)
    _name_batch(model)
    _name_outputs(model, captured.output_names)
    return model


def tail_to_onnx(tail: TailProgram, values: Sequence[torch.Tensor], opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """The part behind a layer, for these values of its inputs, by the same converter. Raises `ExportError`."""
    with quiet_torch(), torch.no_grad():
        program = torch.export.export(tail.in_float64(), tuple(values))
    return _convert(for_converter(program), opset, tail.inputs)


def _convert(program: torch.export.ExportedProgram, opset: int, inputs: Sequence[str] | None = None) -> onnx.ModelProto:
    try:
        with quiet_torch():
            converted: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=inputs,
                optimize=True,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"PyTorch's ONNX converter refuses the graph at opset {opset}: {_reason(error)}") from error
    model: onnx.ModelProto = converted.model_proto
    for value in converted.model.graph.initializers.values():
        value.const_value = None  # onnxscript's rewriter remembers the last graph it saw, weights included
    _strip_traces(model)
    written = {entry.domain: entry.version for entry in model.opset_import}[""]
    model.ir_version = _IR_VERSION.get(written, model.ir_version)
    return model


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first; the converter wraps it in advice of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _strip_traces(model: onnx.ModelProto) -> None:
    """Take out stack traces and file names of the machine that exported the model."""
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for values in (model.graph.value_info, model.graph.input, model.graph.output, model.graph.initializer):
        for value in values:
            value.ClearField("metadata_props")
            value.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    model.graph.ClearField("value_info")


def _name_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Give the outputs the names that the module gives them, where they have one that is free."""
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {entry.name for entry in (*graph.input, *graph.initializer)}
    for output, name in zip(graph.output, names, strict=False):
        makers = [node for node in graph.node if output.name in node.output]
        if not name or name in taken or names.count(name) > 1 or not makers:
            continue
        for node in graph.node:
            for names_of in (node.input, node.output):
                for place, old in enumerate(names_of):
                    if old == output.name:
                        names_of[place] = name
        taken.add(name)
        output.name = name


def _name_batch(model: onnx.ModelProto) -> None:
    """Call the batch dimension ``batch`` everywhere, whatever symbol the tracer used."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].HasField("dim_param"):
            dims[0].dim_param = "batch"
