"""What must hold of a model before any pass looks at it: sentences instead of odd failures later.

ONNX's own checker is stricter than the engines (it knows no operator of other domains put into
the default one, as ONNX Runtime's optimiser does) and copies all weights, so the few things that
the passes rely on are checked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
import onnx.checker
import onnx.defs
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from ...runtime.errors import ModelFileError
from ..wording import first_line

__all__ = ["check_nodes", "check_tensors", "check_values"]


def check_tensors(model: ModelProto) -> None:
    """Every stored array has a type and as many bytes as its shape says. Raises `ModelFileError`."""
    for tensor in _tensors(model):
        what = f"weight '{tensor.name}'" if tensor.name else "a constant"
        if tensor.data_type not in helper.get_all_tensor_dtypes():
            raise ModelFileError(f"{what} has the unknown element type {tensor.data_type}: the file is damaged")
        if any(d < 0 for d in tensor.dims):
            raise ModelFileError(f"{what} has the shape {tuple(tensor.dims)}, and no size can be negative")
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelFileError(f"{what} lies in another file: read the model with load_model")
        if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
            expected, found = _bytes(tensor), len(tensor.raw_data)
            if found != expected:
                raise ModelFileError(
                    f"{what} of shape {tuple(tensor.dims)} needs {expected} bytes and has {found}: the file is damaged"
                )
            continue
        try:
            onnx.checker.check_tensor(tensor)
        except Exception as error:
            raise ModelFileError(f"{what} is not a valid array ({first_line(error)})") from error


def check_values(model: ModelProto) -> None:
    """Inputs and outputs have element types that exist. Raises `ModelFileError`."""
    for role, infos in (("input", model.graph.input), ("output", model.graph.output)):
        for info in infos:
            kind = info.type.tensor_type.elem_type
            if info.type.HasField("tensor_type") and kind and kind not in helper.get_all_tensor_dtypes():
                raise ModelFileError(f"{role} '{info.name}' has the unknown element type {kind}: the file is damaged")


def check_nodes(model: ModelProto) -> None:
    """Every node has the inputs, outputs and attributes that its operator needs. Raises `ModelFileError`.

    Operators that ONNX does not define are taken as they are.
    """
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelFileError(f"the model imports two versions of the operators of '{domain or 'ai.onnx'}'")
    for node in model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        what = f"node '{node.name}' ({node.op_type})"
        if not node.op_type:
            raise ModelFileError(f"node '{node.name}' names no operator: the file is damaged")
        if domain not in versions:
            raise ModelFileError(f"{what} belongs to the domain '{domain}', of which the model imports no version")
        try:
            schema = onnx.defs.get_schema(node.op_type, versions[domain], domain)
        except onnx.defs.SchemaError:
            continue
        _check_against(node, schema, what)


def _check_against(node: NodeProto, schema: onnx.defs.OpSchema, what: str) -> None:
    inputs, outputs = len(node.input), len(node.output)
    if not schema.min_input <= inputs <= schema.max_input:
        raise ModelFileError(f"{what} has {inputs} inputs, expected {_range(schema.min_input, schema.max_input)}")
    if not schema.min_output <= outputs <= schema.max_output:
        raise ModelFileError(f"{what} has {outputs} outputs, expected {_range(schema.min_output, schema.max_output)}")
    for position in range(min(schema.min_input, inputs)):
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        optional = formal.option == onnx.defs.OpSchema.FormalParameterOption.Optional
        # Resize 11 asks for a region that most of its modes ignore; exporters leave it out.
        if not node.input[position] and not optional and node.op_type != "Resize":
            raise ModelFileError(f"{what} lacks its input {position} ('{formal.name}')")
    given = {a.name: a for a in node.attribute}
    for name, wanted in schema.attributes.items():
        if name not in given:
            if wanted.required:
                raise ModelFileError(f"{what} lacks its attribute '{name}'")
            continue
        written = str(wanted.type).rsplit(".", 1)[-1]  # "AttrType.INTS"
        kind, expected = given[name].type, AttributeProto.AttributeType.Value(written)
        # Attributes of a local function's body may stand for an argument, and carry no type of their own.
        if kind != expected and not given[name].ref_attr_name:
            found = AttributeProto.AttributeType.Name(kind) if kind in AttributeProto.AttributeType.values() else kind
            raise ModelFileError(f"the attribute '{name}' of {what} is of type {found}, expected {written}")


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for item in node.attribute:
            if item.type == AttributeProto.TENSOR:
                yield item.t


def _bytes(tensor: TensorProto) -> int:
    count = math.prod(tensor.dims)
    name = TensorProto.DataType.Name(tensor.data_type)
    if name.endswith("INT4") or name == "FLOAT4E2M1":
        return (count + 1) // 2
    if name.endswith("INT2"):
        return (count + 3) // 4
    return count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _range(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"{low} or more" if high > 1000 else f"{low} to {high}"
