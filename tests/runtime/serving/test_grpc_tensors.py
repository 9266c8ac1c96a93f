"""Messages of the protocol to questions and back, by hand and by the protocol's own client."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tritonclient.grpc as client
from cfcam.runtime import Explainer
from cfcam.runtime.serving import grpc_tensors, v2
from cfcam.runtime.serving.grpc_tensors import pb
from cfcam.runtime.serving.limits import Refusal
from cfcam.runtime.serving.models import ServedModel
from PIL import Image


@pytest.fixture(scope="module")
def model(tiny_path):
    return ServedModel("m", Explainer(tiny_path("logits")))


def _input(name, datatype, shape, **contents):
    return pb.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents)
    )


def _request(*inputs, **more):
    return pb.ModelInferRequest(inputs=inputs, **more)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [1.5, -2.5]),
        ("FP64", "fp64_contents", [1e300, -2.5]),
    ],
)
def test_numbers_of_every_datatype_as_contents_and_raw(datatype, field, values):
    expected = np.array(values, v2.TYPES[datatype]).reshape(2, 1)
    typed = _request(_input("tensor", datatype, [2, 1], **{field: values}))
    raw = _request(_input("tensor", datatype, [2, 1]), raw_input_contents=[expected.tobytes()])
    for request in (typed, raw):
        images = np.array([question.image for question in grpc_tensors.questions(request)])
        assert images.dtype == expected.dtype
        np.testing.assert_array_equal(images, expected)


def test_what_nvidias_client_writes_is_read():
    photos = client.InferInput("image", [2], "BYTES").set_data_from_numpy(np.array([b"abc", b"de"], object))
    targets = client.InferInput("target", [2], "INT64").set_data_from_numpy(np.array([3, -1]))
    request = _request(photos._get_tensor(), targets._get_tensor())
    request.raw_input_contents.extend([photos._get_content(), targets._get_content()])
    request.parameters["method"].string_param = "gradcam"
    asked = grpc_tensors.questions(request)
    assert [(q.image, q.target, q.method) for q in asked] == [(b"abc", 3, "gradcam"), (b"de", -1, "gradcam")]


def test_photos_and_labels_as_contents():
    request = _request(
        _input("image", "BYTES", [1], bytes_contents=[b"abc"]), _input("target", "BYTES", [1], bytes_contents=[b"red"])
    )
    (asked,) = grpc_tensors.questions(request)
    assert (asked.image, asked.target) == (b"abc", "red")


def _with(request, **parameters):
    for name, value in parameters.items():
        setattr(request.parameters[name], {bool: "bool_param", str: "string_param"}[type(value)], value)
    return request


_ONE = _input("tensor", "FP32", [1], fp32_contents=[1.0])
_BARE = _input("tensor", "FP32", [1])


def _sized(size, **contents):
    one = _input("tensor", "FP32", [1], **contents)
    one.parameters["binary_data_size"].int64_param = size
    return one


def test_a_size_that_kserves_client_repeats_is_the_length():
    (question,) = grpc_tensors.questions(_request(_sized(4), raw_input_contents=[bytes(4)]))
    np.testing.assert_array_equal(question.image, 0)


@pytest.mark.parametrize(
    "request_",
    [
        _request(),
        _request(_ONE, _ONE),
        _request(_BARE),
        _request(_ONE, raw_input_contents=[b"1234"]),
        _request(_BARE, raw_input_contents=[b"123"]),
        _request(_BARE, raw_input_contents=[b"1234", b""]),
        _request(_input("SECRET", "FP32", [1], fp32_contents=[1.0])),
        _request(_input("tensor", "SECRET", [1], fp32_contents=[1.0])),
        _request(_input("tensor", "FP16", [1], fp32_contents=[1.0])),
        _request(_input("tensor", "FP32", [2], fp32_contents=[1.0])),
        _request(_input("tensor", "FP32", [-1], fp32_contents=[1.0])),
        _request(_input("tensor", "FP32", [1] * 9, fp32_contents=[1.0])),
        _request(_input("tensor", "FP32", [1], fp64_contents=[1.0])),
        _request(_input("tensor", "INT8", [1], int_contents=[300])),
        _request(_input("image", "BYTES", [2], bytes_contents=[b"SECRET"])),
        _request(_input("image", "BYTES", [1]), raw_input_contents=[struct.pack("<I", 9) + b"SECRET"]),
        _request(_ONE, _input("target", "INT64", [2], int64_contents=[1, 1])),
        _request(_sized(4, fp32_contents=[1.0])),
        _request(_sized(5), raw_input_contents=[b"1234"]),
        _with(_request(_ONE), SECRET="1"),
        _with(_request(_ONE), method=True),
    ],
)
def test_wrong_messages_are_refused_without_repeating_them(request_):
    with pytest.raises(Refusal) as caught:
        grpc_tensors.questions(request_)
    assert caught.value.status == 400
    assert "SECRET" not in str(caught.value)


def test_too_many_values(monkeypatch):
    monkeypatch.setattr(v2, "MOST_VALUES", 1)
    with pytest.raises(Refusal, match="raw_input_contents") as caught:
        grpc_tensors.questions(_request(_input("tensor", "FP32", [2], fp32_contents=[1.0, 2.0])))
    assert caught.value.status == 413


def test_bytes_that_are_no_message():
    assert grpc_tensors.decoded(pb.ModelReadyRequest, b"\x0a\x01m").name == "m"
    with pytest.raises(Refusal) as caught:
        grpc_tensors.decoded(pb.ModelReadyRequest, b"\xff")
    assert caught.value.status == 400


def test_outputs_as_contents_and_raw(model):
    explanation = model.explainer.explain(Image.new("RGB", (64, 64), "red"))
    typed = grpc_tensors.response(_request(_ONE, id="7"), model, [explanation])
    assert (typed.id, typed.model_name, typed.model_version) == ("7", "m", "1")
    outputs = {one.name: one for one in typed.outputs}
    assert list(outputs) == [one["name"] for one in v2.metadata(model)["outputs"]]
    assert list(outputs["class"].contents.int64_contents) == [explanation.target]
    assert list(outputs["label"].contents.bytes_contents) == [explanation.label.encode()]
    shape = tuple(outputs["map"].shape)
    found = np.array(outputs["map"].contents.fp32_contents, np.float32).reshape(shape)
    np.testing.assert_array_equal(found[0], explanation.map)

    request = _request(_BARE, raw_input_contents=[b"1234"])
    request.outputs.add(name="label")
    request.outputs.add(name="map")
    raw = client.InferResult(grpc_tensors.response(request, model, [explanation]))
    np.testing.assert_array_equal(raw.as_numpy("map"), explanation.map[None])
    np.testing.assert_array_equal(raw.as_numpy("label"), [explanation.label.encode()])
    assert raw.as_numpy("class") is None


def test_wrong_outputs_are_refused(model):
    request = _request(_ONE)
    request.outputs.add(name="map").parameters["SECRET"].bool_param = True
    with pytest.raises(Refusal, match="not valid"):
        grpc_tensors.response(request, model, [])
    request = _request(_ONE)
    request.outputs.add(name="SECRET")
    with pytest.raises(Refusal, match="expected some of class"):
        grpc_tensors.response(request, model, [])


def test_metadata_say_the_same_as_rest(model):
    known = v2.metadata(model)
    found = grpc_tensors.metadata(model)
    for which in ("inputs", "outputs"):
        tensors = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(found, which)]
        assert tensors == known[which]
    assert (found.name, list(found.versions), found.platform) == ("m", ["1"], "cfcam")
