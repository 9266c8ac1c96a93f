"""The Open Inference Protocol V2 over REST: documents and binary tensors to questions, explanations to tensors."""

from __future__ import annotations

import base64
import binascii
import io
import math
import struct
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from ..explanation import Explanation
from .limits import Refusal
from .models import Question, ServedModel

__all__ = [
    "MOST_VALUES",
    "TYPES",
    "Answer",
    "InferRequest",
    "Input",
    "Parameters",
    "Part",
    "Tensor",
    "answers",
    "array_of",
    "asked",
    "check_name",
    "counted",
    "encodable",
    "from_base64",
    "from_binary",
    "jpeg",
    "kind_of",
    "metadata",
    "parse",
    "parsed",
    "questions",
    "refusing",
    "response",
]

#: Datatypes of the protocol, and numpy's names of them.
TYPES = {
    "BOOL": "bool",
    **{f"{kind}{bits}": f"{kind.lower()}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
_NAMES = {numpy: name for name, numpy in TYPES.items()}
_MOST_IMAGES = 32
#: Values in a document: more take too much memory while they are read.
MOST_VALUES = 2_000_000
_SIDE = 512

#: A tensor of a request: photos or labels, or numbers.
Tensor = list[bytes] | NDArray[Any]

_Count = Annotated[int, Field(ge=0, le=2**31)]


class Part(BaseModel):
    """A part of a document: of these fields alone, and of exactly their types."""

    model_config = ConfigDict(strict=True, extra="forbid")


class InputParameters(Part):
    """What an input says of its data."""

    binary_data_size: _Count | None = None


class Input(Part):
    """An input of an inference."""

    name: str = Field(json_schema_extra={"enum": ["image", "tensor", "target"]})
    shape: list[_Count] = Field(max_length=8)
    datatype: str = Field(json_schema_extra={"enum": ["BYTES", *TYPES]})
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(Part):
    """How an output is sent."""

    binary_data: bool | None = None


class Output(Part):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class Parameters(Part):
    """What holds for all images of a request."""

    target: int | str | None = None
    method: str | None = None
    binary_data_output: bool = False


class InferRequest(Part):
    """The body of an inference. KServe's client repeats the model that the address names."""

    model_name: str | None = None
    model_version: str | None = None
    id: str | None = None
    parameters: Parameters = Parameters()
    inputs: list[Input] = Field(min_length=1, max_length=3)
    outputs: list[Output] | None = None


def parsed(kind: type[Any], text: bytes) -> Any:
    """A document of that model. Raises `Refusal` (400, 413), which says where it is wrong, and not what was sent."""
    if text.count(b",") + text.count(b"[") > MOST_VALUES:
        raise Refusal(413, f"the document has more than {MOST_VALUES} values: send tensors as binary data")
    with refusing():
        return kind.model_validate_json(text)


@contextmanager
def refusing() -> Iterator[None]:
    """A block that validates: raises `Refusal` (400), which says where it is wrong, and not what was sent."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        # Names that are not known are the sender's own: only their place is told.
        known = [str(part) for part in first["loc"]][: -1 if first["type"] == "extra_forbidden" else None]
        raise Refusal(400, f"the document is not valid: {'.'.join(known) or 'body'}: {first['msg']}") from None


def parse(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes]:
    """The document and the binary data behind it. header_length: the header that says where it ends, or None."""
    if header_length is None:
        return parsed(InferRequest, body), b""
    if not header_length.isdecimal() or len(header_length) > 10 or int(header_length) > len(body):
        raise Refusal(400, "Inference-Header-Content-Length: expected a length within the body")
    end = int(header_length)
    return parsed(InferRequest, body[:end]), body[end:]


def questions(request: InferRequest, binary: bytes, name: str) -> list[Question]:
    """What is asked of every image. name: of the model in the address. Raises `Refusal`."""
    if request.model_name not in (None, name) or request.model_version not in (None, "", "1"):
        raise Refusal(400, "the document names another model or version than the address")
    tensors: dict[str, Tensor] = {}
    for one in request.inputs:
        check_name(one.name, tensors)
        size = one.parameters.binary_data_size
        if (size is None) == (one.data is None):
            raise Refusal(400, f"input '{one.name}': expected either data or the parameter binary_data_size")
        if size is not None and size > len(binary):
            raise Refusal(400, f"input '{one.name}': its binary data is shorter than binary_data_size")
        tensors[one.name] = from_binary(one, binary[:size]) if size is not None else _from_json(one)
        binary = binary[size or 0 :]
    if binary:
        raise Refusal(400, "the body goes on behind the binary data that the inputs name")
    return asked(tensors, request.parameters)


def check_name(name: str, tensors: Container[str]) -> None:
    """Refuse an input that is not known, or that is there already. Raises `Refusal`."""
    if name not in ("image", "tensor", "target") or name in tensors:
        raise Refusal(400, "inputs: expected 'image' (BYTES) or 'tensor', and 'target' where one is asked for")


def asked(tensors: dict[str, Tensor], parameters: Parameters) -> list[Question]:
    """What is asked of every image, from the inputs by name. Raises `Refusal`."""
    targets = tensors.pop("target", None)
    if len(tensors) != 1:
        raise Refusal(400, "inputs: expected one of 'image' and 'tensor'")
    name, images = next(iter(tensors.items()))
    if (name == "image") != isinstance(images, list):
        raise Refusal(400, "inputs: 'image' has the datatype BYTES, 'tensor' that of the model's input")
    if (isinstance(images, np.ndarray) and images.ndim == 0) or not 1 <= len(images) <= _MOST_IMAGES:
        raise Refusal(400, f"inputs: expected 1 to {_MOST_IMAGES} images")
    each: list[Any] = [parameters.target] * len(images)
    if targets is not None:
        if isinstance(targets, np.ndarray) and targets.dtype.kind not in "iu":
            raise Refusal(400, "input 'target': expected INT64 or BYTES")
        flat = targets if isinstance(targets, list) else targets.ravel()
        each = [t.decode("utf-8", "replace") if isinstance(t, bytes) else int(t) for t in flat]
        if len(each) != len(images):
            raise Refusal(400, "input 'target': expected one per image")
    return [Question(image, target, parameters.method) for image, target in zip(images, each, strict=True)]


def from_binary(one: Input, data: bytes) -> Tensor:
    """A tensor from the protocol's binary form: BYTES with their lengths before them. Raises `Refusal`."""
    count = math.prod(one.shape)
    if one.datatype != "BYTES":
        kind = kind_of(one)
        if count * kind.itemsize != len(data):
            raise Refusal(400, f"input '{one.name}': its binary data does not fit its shape and datatype")
        return np.frombuffer(data, kind).reshape(one.shape)
    items, place = [], 0
    while place < len(data):
        if len(data) - place < 4 or len(items) >= count:
            raise Refusal(400, f"input '{one.name}': its BYTES do not fit its shape")
        (length,) = struct.unpack_from("<I", data, place)
        items.append(data[place + 4 : place + 4 + length])
        place += 4 + length
        if place > len(data):
            raise Refusal(400, f"input '{one.name}': its BYTES are truncated")
    return counted(one, items)


def _from_json(one: Input) -> Tensor:
    values = _flat(one)
    if one.datatype == "BYTES":
        if not all(isinstance(value, str) for value in values):
            raise Refusal(400, f"input '{one.name}': expected text" + (" in base64" if one.name == "image" else ""))
        if one.name == "target":
            return counted(one, [value.encode("utf-8", "replace") for value in values])
        return counted(one, [from_base64(value) for value in values])
    kind = kind_of(one)
    allowed = (bool,) if kind.kind == "b" else (int,) if kind.kind in "iu" else (int, float)
    if not all(type(value) in allowed for value in values):
        raise Refusal(400, f"input '{one.name}': expected values of the datatype {one.datatype}")
    return array_of(one, counted(one, values))


def array_of(one: Input, values: list[Any]) -> NDArray[Any]:
    """Numbers in the input's shape and datatype. Raises `Refusal`."""
    try:
        with np.errstate(over="ignore"):  # to infinity, which the model's input is not
            return np.array(values, kind_of(one)).reshape(one.shape)
    except (OverflowError, ValueError) as error:
        raise Refusal(400, f"input '{one.name}': a value is out of the range of {one.datatype}") from error


def from_base64(text: str) -> bytes:
    """The bytes of a photo. Raises `Refusal`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "a photo in JSON is base64 text, which this is not") from error


def _flat(one: Input) -> list[Any]:
    level = one.data or []
    for _ in range(8):
        if not any(isinstance(item, list) for item in level):
            return level
        level = [item for holder in level for item in (holder if isinstance(holder, list) else [holder])]
    raise Refusal(400, f"input '{one.name}': its data are nested too deeply")


def counted(one: Input, values: list[Any]) -> list[Any]:
    """The values, which are as many as the shape says. Raises `Refusal`."""
    if len(values) != math.prod(one.shape):
        raise Refusal(400, f"input '{one.name}': its shape asks for another number of values than there are")
    return values


def kind_of(one: Input) -> np.dtype[Any]:
    """numpy's type of an input's numbers, little-endian. Raises `Refusal`."""
    if one.datatype not in TYPES:
        raise Refusal(400, f"input '{one.name}': unknown datatype, expected BYTES or one of {', '.join(TYPES)}")
    return np.dtype(TYPES[one.datatype]).newbyteorder("<")


def encodable(text: str) -> str:
    """A label without what UTF-8 cannot hold, which a file may give it."""
    return text.encode("utf-8", "replace").decode()


def jpeg(explanation: Explanation, *, legend: bool = False) -> bytes:
    """The overlay, at most 512 pixels wide and high without its legend, as a JPEG file."""
    data = io.BytesIO()
    explanation.overlay(_SIDE, legend=legend).save(data, format="JPEG", quality=90)
    return data.getvalue()


def _outputs(model: ServedModel) -> dict[str, tuple[str, list[int]]]:
    """Of every output its datatype and its shape; -1 is the number of images."""
    spec = model.explainer.spec
    score = "value" if spec.output.values else "probability"
    return {
        "class": ("INT64", [-1]),
        "label": ("BYTES", [-1]),
        score: ("FP32", [-1]),
        "peak": ("FP32", [-1, 2]),
        "empty": ("BOOL", [-1]),
        **({"logits": ("FP32", [-1, spec.output.classes])} if model.has_logits else {}),
        "map": ("FP32", [-1, spec.input.height, spec.input.width]),
        "overlay": ("BYTES", [-1]),
        **({"outlier": ("BOOL", [-1]), "distance": ("FP32", [-1])} if model.watch is not None else {}),
    }


def metadata(model: ServedModel) -> dict[str, Any]:
    """The answer to a request for a model's metadata."""
    spec = model.explainer.spec
    inputs = {
        "image": ("BYTES", [-1]),
        "tensor": (_NAMES[spec.input.dtype], [-1, *spec.input.shape(1)[1:]]),
        "target": ("INT64", [-1]),
    }
    tensors = [
        [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in some.items()]
        for some in (inputs, _outputs(model))
    ]
    return {
        "name": model.name,
        "versions": ["1"],
        "platform": "cfcam",
        "inputs": tensors[0],
        "outputs": tensors[1],
        "properties": {"gate": model.gate, "layer": spec.layer.name, "method": spec.method.name},
    }


@dataclass(frozen=True, eq=False)
class Answer:
    """An output of a response. values: one per image."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]

    def packed(self) -> bytes:
        """The protocol's binary form."""
        if self.datatype == "BYTES":
            return b"".join(struct.pack("<I", len(item)) + item for item in self.values)
        return np.array(self.values, np.dtype(TYPES[self.datatype]).newbyteorder("<")).tobytes()

    def flat(self) -> list[Any]:
        """The numbers, row by row."""
        return np.array(self.values, TYPES[self.datatype]).ravel().tolist()


def answers(names: Sequence[str] | None, model: ServedModel, explanations: Sequence[Explanation]) -> list[Answer]:
    """The outputs of those names; None for all. Raises `Refusal` for one that is not known, or is there twice."""
    known = _outputs(model)
    if names is not None and (len(set(names)) < len(names) or not known.keys() >= set(names)):
        raise Refusal(400, f"outputs: expected some of {', '.join(known)}, each once")
    found = []
    for name in known if names is None else names:
        kind, shape = known[name]
        values = [_value(name, explanation, model) for explanation in explanations]
        found.append(Answer(name, kind, [len(values), *shape[1:]], values))
    return found


def response(
    request: InferRequest, model: ServedModel, explanations: Sequence[Explanation]
) -> tuple[bytes, int | None]:
    """The body, and where its document ends, if binary data follow. Raises `Refusal` for an unknown output."""
    names = None if request.outputs is None else [one.name for one in request.outputs]
    flags = {one.name: one.parameters.binary_data for one in request.outputs or ()}
    outputs, parts = [], []
    for one in answers(names, model, explanations):
        entry: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": one.shape}
        flag = flags.get(one.name)
        if request.parameters.binary_data_output if flag is None else flag:
            parts.append(one.packed())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        elif one.name == "overlay":
            entry |= {"parameters": {"encoding": "base64"}, "data": [base64.b64encode(v).decode() for v in one.values]}
        elif one.datatype == "BYTES":
            entry["data"] = [item.decode() for item in one.values]
        else:
            entry["data"] = one.flat()
        outputs.append(entry)
    document = {"model_name": model.name, "model_version": "1", "outputs": outputs}
    head = to_json(document if request.id is None else {"id": request.id, **document}, inf_nan_mode="null")
    return head + b"".join(parts), len(head) if parts else None


def _value(name: str, explanation: Explanation, model: ServedModel) -> Any:
    if name == "overlay":
        return jpeg(explanation)
    if name == "label":
        return encodable(explanation.label).encode()
    if name == "peak":  # of an empty map there is none
        return explanation.peak or (math.nan, math.nan)
    if name in ("outlier", "distance") and model.watch is not None:
        found = getattr(model.watch.of(explanation), name)
        return math.nan if found is None else found  # what is not compared has no distance
    return getattr(explanation, {"class": "target"}.get(name, name))
