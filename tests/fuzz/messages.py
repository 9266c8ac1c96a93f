"""Messages of the server's gRPC: odd fields, spoilt bytes, photos and tensors in both forms, without a connection."""

from __future__ import annotations

import functools
import io
import logging
import random
import tempfile
from pathlib import Path
from typing import Any

import tiny_model
from cfcam.runtime.serving import grpc_tensors
from cfcam.runtime.serving.grpc_tensors import pb
from cfcam.runtime.serving.models import open_models
from cfcam.runtime.serving.service import Limits, Service, said_of
from PIL import Image

from .common import spoil_bytes

__all__ = ["message"]

_SECRET = "SECRET7"
_STATUSES = {400, 404, 413, 422}
_KINDS = ["BYTES", "FP32", "FP16", "FP64", "INT8", "INT64", "UINT8", "UINT64", "BOOL", "fp32", "", _SECRET]
_SHAPES = [[1], [1], [2], [33], [], [0], [-1], [1, 1], [1] * 9, [2**31, 2**31], [2**62, 2**62], [1, 3, 32, 49]]
_VALUES: dict[str, list[Any]] = {
    "bool_contents": [True, False],
    "int_contents": [0, 5, -1, 300, 2**31 - 1],
    "int64_contents": [0, 5, -(2**63)],
    "uint_contents": [0, 2**32 - 1],
    "uint64_contents": [2**64 - 1],
    "fp32_contents": [0.0, 1e38, float("nan"), float("inf")],
    "fp64_contents": [0.0, 1e308, float("-inf")],
}
_PARAMETERS = ["target", "target", "method", "binary_data_output", "binary_data_size", _SECRET]


@functools.cache
def _service() -> Service:
    with tempfile.TemporaryDirectory() as folder:
        path, tail = Path(folder) / "m.cam.onnx", Path(folder) / "tail.onnx"
        tiny_model.build(tiny_model.VARIANTS["logits"], path, tail)
        return Service(open_models([f"m={path}"], max_pixels=200_000), Limits())


@functools.cache
def _photo(form: str) -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((60, 40)).convert("RGB").save(data, form)
    return data.getvalue()


def _bytes(chance: random.Random) -> bytes:
    photo = _photo(chance.choice(["PNG", "JPEG"]))
    return chance.choice(
        [photo, photo, photo, photo, spoil_bytes(photo, chance), b"", b"red", b"\xff", _SECRET.encode()]
    )


def _input(chance: random.Random, request: Any) -> None:
    name = chance.choice(chance.choice([["image", "tensor"], ["image", "tensor", "target", _SECRET]]))
    usual = {"image": "BYTES", "tensor": "FP32", "target": "INT64"}.get(name)
    kind = usual if usual and chance.random() < 0.8 else chance.choice(_KINDS)
    whole = name == "tensor" and chance.random() < 0.8
    shape = [1, 3, 32, 48] if whole else [1] if chance.random() < 0.8 else chance.choice(_SHAPES)
    tensor = request.inputs.add(name=name, datatype=kind, shape=shape)
    count = 3 * 32 * 48 if whole else chance.choice([1, 1, 1, 1, 1, 0, 2])
    if chance.random() < 0.6:
        usual = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "INT64": "int64_contents"}.get(kind)
        field = usual if usual and chance.random() < 0.9 else chance.choice(list(_VALUES))
        values = [_bytes(chance) for _ in range(2)] if field == "bytes_contents" else _VALUES[field]
        if chance.random() < 0.7:
            values = values[:1]
        getattr(tensor.contents, field).extend(chance.choices(values, k=count))
    if chance.random() < 0.1:
        _parameter(chance, tensor.parameters)


def _parameter(chance: random.Random, parameters: Any) -> None:
    one = parameters[chance.choice(_PARAMETERS)]
    field, values = chance.choice(
        [
            ("string_param", ["gradcam", "scorecam", "red", "", _SECRET]),
            ("int64_param", [0, 5, 99, -1, 2**62]),
            ("bool_param", [True]),
            ("double_param", [1.0, float("nan")]),
        ]
    )
    setattr(one, field, chance.choice(values))


def _raw(chance: random.Random, tensor: Any) -> bytes:
    photo = _bytes(chance)
    packed = len(photo).to_bytes(4, "little") + photo
    if tensor.datatype == "FP32":
        size = 4 * 3 * 32 * 48
        packed = bytes(size) if chance.random() < 0.7 else chance.randbytes(size)
    return chance.choice([packed, packed, packed, spoil_bytes(packed, chance), b"\xff" * 4, bytes(8)])


def _request(chance: random.Random) -> Any:
    request = pb.ModelInferRequest(model_name=chance.choice(["m"] * 9 + ["", _SECRET]))
    request.model_version = chance.choice([""] * 8 + ["1", "2"])
    for _ in range(chance.choice([1, 1, 1, 1, 2, 3, 0])):
        _input(chance, request)
    if chance.random() < 0.5:
        for tensor in request.inputs:
            tensor.ClearField("contents")
        request.raw_input_contents.extend(_raw(chance, tensor) for tensor in request.inputs)
    if chance.random() < 0.05:
        request.raw_input_contents.append(b"1234")
    if chance.random() < 0.15:
        _parameter(chance, request.parameters)
    if chance.random() < 0.2:
        for _ in range(chance.choice([1, 2])):
            request.outputs.add(name=chance.choice(["map", "label", "overlay", "logits", _SECRET]))
    return request


def message(chance: random.Random, folder: Path) -> None:
    """It is answered, or refused by a sentence that repeats nothing of it; never by an internal error."""
    data = _request(chance).SerializeToString()
    if chance.random() < 0.2:
        data = spoil_bytes(data, chance)
    service, records = _service(), []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("cfcam").addHandler(handler)
    try:
        request = grpc_tensors.decoded(pb.ModelInferRequest, data)
        model = service.model(request.model_name, request.model_version or "1")
        explanations = service.answers(model, grpc_tensors.questions(request))
        answer = grpc_tensors.response(request, model, explanations)
    except Exception as error:
        refusal = said_of(error)
        assert refusal.status in _STATUSES, [record.getMessage() for record in records]
        assert _SECRET not in str(refusal)
        assert str(refusal).isprintable()
        return
    finally:
        logging.getLogger("cfcam").removeHandler(handler)
    assert not records
    assert answer.outputs
