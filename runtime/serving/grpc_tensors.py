"""Messages of the Open Inference Protocol to questions, and explanations to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2

from ..explanation import Explanation
from . import v2
from .limits import Refusal
from .models import Question, ServedModel

__all__ = ["decoded", "metadata", "pb", "questions", "response"]

#: The protocol's messages, whose types are made when they are imported.
pb: Any = service_pb2

#: Which field of a tensor's contents holds which datatypes. FP16 has none: it comes as raw contents.
_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def decoded(kind: type[Any], data: bytes) -> Any:
    """A message of that type. Raises `Refusal` (400)."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Refusal(400, f"the message is no {kind.__name__}") from None


def questions(request: Any) -> list[Question]:
    """What a `ModelInferRequest` asks of every image. Raises `Refusal`."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Refusal(400, "raw_input_contents: expected one per input, or none and the contents of each input")
    tensors: dict[str, v2.Tensor] = {}
    for i, message in enumerate(request.inputs):
        v2.check_name(message.name, tensors)
        with v2.refusing():
            one = v2.Input(
                name=message.name,
                datatype=message.datatype,
                shape=list(message.shape),
                parameters=_parameters(v2.InputParameters, message.parameters),
            )
        # KServe's client says it here too, as in REST.
        if one.parameters.binary_data_size not in (None, len(raw[i]) if raw else None):
            raise Refusal(400, f"input '{one.name}': binary_data_size is not the length of its raw_input_contents")
        if not raw:
            tensors[one.name] = _from_contents(one, message.contents)
        elif message.HasField("contents") and message.contents.ListFields():
            raise Refusal(400, f"input '{one.name}': expected either raw_input_contents or contents")
        else:
            tensors[one.name] = v2.from_binary(one, raw[i])
    return v2.asked(tensors, _parameters(v2.Parameters, request.parameters))


def _parameters(kind: type[Any], sent: Mapping[str, Any]) -> Any:
    values = {
        name: getattr(value, value.WhichOneof("parameter_choice") or "bool_param") for name, value in sent.items()
    }
    with v2.refusing():
        return kind.model_validate(values)


def _from_contents(one: v2.Input, contents: Message) -> v2.Tensor:
    field = _FIELDS.get(one.datatype)
    if field is None:
        v2.kind_of(one)
        raise Refusal(400, f"input '{one.name}': {one.datatype} has no contents of its own: send raw_input_contents")
    if any(descriptor.name != field for descriptor, _ in contents.ListFields()):
        raise Refusal(
            400, f"input '{one.name}': expected {field} for the datatype {one.datatype}, or raw_input_contents"
        )
    sent = getattr(contents, field)
    if len(sent) > v2.MOST_VALUES:
        raise Refusal(413, f"the contents have more than {v2.MOST_VALUES} values: send raw_input_contents")
    values = v2.counted(one, list(sent))
    return values if one.datatype == "BYTES" else v2.array_of(one, values)


def response(request: Any, model: ServedModel, explanations: Sequence[Explanation]) -> Any:
    """The `ModelInferResponse`: raw contents where the request has them. Raises `Refusal` for an unknown output."""
    for one in request.outputs:
        _parameters(v2.OutputParameters, one.parameters)
    found = pb.ModelInferResponse(model_name=model.name, model_version="1", id=request.id)
    for one in v2.answers([one.name for one in request.outputs] or None, model, explanations):
        output = found.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if request.raw_input_contents:
            found.raw_output_contents.append(one.packed())
        else:
            values = one.values if one.datatype == "BYTES" else one.flat()
            getattr(output.contents, _FIELDS[one.datatype]).extend(values)
    return found


def metadata(model: ServedModel) -> Any:
    """The `ModelMetadataResponse`, which has no place for the model's gate and layer."""
    known = v2.metadata(model)
    del known["properties"]
    return pb.ModelMetadataResponse(**known)
