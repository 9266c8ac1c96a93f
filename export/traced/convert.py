"""Pass 7, convert: traced graphs become ONNX models.

The joint graph and the plain program go through the same converter with the same options,
so that whatever the converter does to one it does to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import fx

from ..errors import ExportError
from .attention import for_converter
from .capture import TRACING_BATCH, Captured, quiet_torch

__all__ = ["DEFAULT_OPSET", "joint_to_onnx", "plain_to_onnx"]

#: The lowest opset that PyTorch's converter writes; every runtime since 2023 reads it.
DEFAULT_OPSET = 18

# The lowest IR version for opsets up to 20, so that older runtimes open the file.
_IR_VERSION = {18: 9, 19: 9, 20: 9}


def plain_to_onnx(captured: Captured, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """The model as PyTorch itself exports it, with its own names. Raises `ExportError`."""
    model = _convert(for_converter(captured.program), opset, None, None)
    _name_batch(model)
    return model


def joint_to_onnx(
    joint: fx.GraphModule, inputs: Sequence[str], outputs: Sequence[str], opset: int = DEFAULT_OPSET
) -> onnx.ModelProto:
    """The joint graph, its inputs and outputs named as given. Raises `ExportError`."""
    batch = torch.export.Dim("batch")
    image, target = (node.meta["val"] for node in joint.graph.nodes if node.op == "placeholder")
    arguments = (
        torch.empty(TRACING_BATCH, *image.shape[1:], dtype=image.dtype),
        torch.empty(TRACING_BATCH, dtype=target.dtype),
    )
    try:
        with quiet_torch(), torch.no_grad():
            program = torch.export.export(joint, arguments, dynamic_shapes=({0: batch}, {0: batch}))
    except Exception as error:
        raise ExportError(f"the differentiated graph cannot be exported ({error})") from error
    model = _convert(program, opset, inputs, outputs)
    _name_batch(model)
    return model


def _convert(
    program: torch.export.ExportedProgram, opset: int, inputs: Sequence[str] | None, outputs: Sequence[str] | None
) -> onnx.ModelProto:
    try:
        with quiet_torch():
            converted: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=inputs,
                output_names=outputs,
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


def _name_batch(model: onnx.ModelProto) -> None:
    """Call the batch dimension ``batch`` everywhere, whatever symbol the tracer used."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].HasField("dim_param"):
            dims[0].dim_param = "batch"
