"""Documents and binary tensors of the Open Inference Protocol, by hand and against the protocol's own client."""

from __future__ import annotations

import base64
import io
import json
import struct

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.serving.limits import Refusal
from cfcam.runtime.serving.models import ServedModel
from cfcam.runtime.serving.v2 import encodable, from_base64, jpeg, metadata, parse, questions, response
from PIL import Image


@pytest.fixture(scope="module")
def model(tiny_path):
    return ServedModel("m", Explainer(tiny_path("logits")))


def _document(*inputs, **more):
    return json.dumps({"inputs": inputs, **more}).encode()


def _ask(body, header=None):
    document, binary = parse(body, header)
    return questions(document, binary, "m")


def _input(name, datatype, shape, data=None, **parameters):
    one = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        one["data"] = data
    if parameters:
        one["parameters"] = parameters
    return one


def test_tensors_in_json_and_as_binary_data_are_the_same(model):
    values = np.arange(2 * 3 * 32 * 48, dtype=np.float32).reshape(2, 3, 32, 48)
    flat = _ask(_document(_input("tensor", "FP32", [2, 3, 32, 48], values.ravel().tolist())))
    nested = _ask(_document(_input("tensor", "FP32", [2, 3, 32, 48], values.tolist())))
    head = _document(_input("tensor", "FP32", [2, 3, 32, 48], binary_data_size=values.nbytes))
    binary = _ask(head + values.tobytes(), str(len(head)))
    for asked in (flat, nested, binary):
        np.testing.assert_array_equal([question.image for question in asked], values)


@pytest.mark.parametrize("shape", [[1], [1, 1], []])
def test_a_target_is_one_number_however_it_is_shaped(shape):
    (question,) = _ask(_document(_ONE, _input("target", "INT64", shape, [3])))
    assert question.target == 3


def test_the_model_may_be_repeated():
    assert len(_ask(_document(_ONE, model_name="m", model_version="1"))) == 1


def test_photos_and_targets(model):
    head = _document(
        _input("image", "BYTES", [2], binary_data_size=4 + 3 + 4 + 2),
        _input("target", "INT64", [2], [3, -1]),
        parameters={"method": "gradcam"},
    )
    body = head + struct.pack("<I", 3) + b"abc" + struct.pack("<I", 2) + b"de"
    asked = _ask(body, str(len(head)))
    assert [(q.image, q.target, q.method) for q in asked] == [(b"abc", 3, "gradcam"), (b"de", -1, "gradcam")]
    text = base64.b64encode(b"abc").decode()
    (one,) = _ask(_document(_input("image", "BYTES", [1], [text]), _input("target", "BYTES", [1], ["red"])))
    assert (one.image, one.target) == (b"abc", "red")


_ONE = _input("tensor", "FP32", [1], [1.0])
_WRONG = [
    b"",
    b"\xff",
    b"[]",
    b'{"inputs": []}',
    _document(_ONE, _ONE),
    _document(_input("tensor", "FP32", [], [1.0])),
    _document(_ONE, _input("target", "INT64", [1, 2], [1, 2])),
    _document({**_ONE, "name": "other"}),
    _document({**_ONE, "shape": [2]}),
    _document({**_ONE, "shape": [-1]}),
    _document({**_ONE, "shape": ["1"]}),
    _document({**_ONE, "datatype": "FP31"}),
    _document({**_ONE, "data": ["a"]}),
    _document({**_ONE, "data": [True]}),
    _document({**_ONE, "datatype": "INT8", "data": [300]}),
    _document({**_ONE, "datatype": "INT8", "data": [1.5]}),
    _document({**_ONE, "parameters": {"binary_data_size": 4}}),
    _document(_input("tensor", "FP32", [1], binary_data_size=4)),
    _document({**_ONE, "datatype": "BYTES"}),
    _document(_input("image", "FP32", [1], [1.0])),
    _document(_input("image", "BYTES", [1], ["no base64!"])),
    _document(_input("image", "BYTES", [1], [1])),
    _document(_input("image", "BYTES", [33], ["YQ=="] * 33)),
    _document(_ONE, _input("target", "FP32", [1], [1.0])),
    _document(_ONE, _input("target", "INT64", [2], [1, 1])),
    _document(_ONE, SECRET=1),
    _document({**_ONE, "shape": []}),
    _document(_ONE, model_name="SECRET"),
    _document(_ONE, model_version="2"),
    json.dumps({"inputs": [{**_ONE, "data": [[[[[[[[[[1.0]]]]]]]]]]}]}).encode(),
]


@pytest.mark.parametrize("body", _WRONG)
def test_wrong_documents_are_refused_without_repeating_them(model, body):
    with pytest.raises(Refusal) as caught:
        _ask(body)
    assert caught.value.status == 400
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("binary", "header"),
    [
        (b"", "100000"),
        (b"", "x"),
        (b"\1", None),
        (b"\x09\0\0\0ab", ""),
        (b"\1\0\0\0ab", ""),
        (b"\1\0\0\0a\1\0\0\0b", ""),
    ],
)
def test_wrong_binary_data(model, binary, header):
    head = _document(_input("image", "BYTES", [1], binary_data_size=len(binary)))
    with pytest.raises(Refusal):
        _ask(head + binary, str(len(head)) if header == "" else header)


def test_a_huge_document_is_refused_before_it_is_read():
    with pytest.raises(Refusal) as caught:
        parse(b"[" * 2_000_001, None)
    assert caught.value.status == 413


def test_outputs_in_json_and_as_binary_data(model):
    body = _document(
        _input("image", "BYTES", [1], ["YQ=="]),
        outputs=[
            {"name": "map", "parameters": {"binary_data": True}},
            {"name": "class"},
            {"name": "label", "parameters": {"binary_data": True}},
            {"name": "peak"},
            {"name": "logits"},
            {"name": "overlay"},
        ],
        id="7",
    )
    document, _ = parse(body, None)
    explanation = model.explainer.explain(Image.new("RGB", (64, 64), "red"))
    data, end = response(document, model, [explanation])
    answer = json.loads(data[:end])
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "m", "1")
    outputs = {one["name"]: one for one in answer["outputs"]}
    size = outputs["map"]["parameters"]["binary_data_size"]
    found = np.frombuffer(data[end : end + size], "<f4").reshape(outputs["map"]["shape"])
    np.testing.assert_array_equal(found[0], explanation.map)
    assert data[end + size :] == struct.pack("<I", 3) + b"red"
    assert outputs["class"]["data"] == [0]
    np.testing.assert_allclose(outputs["logits"]["data"], explanation.logits)
    np.testing.assert_allclose(outputs["peak"]["data"], explanation.peak, rtol=1e-6)
    overlay = Image.open(io.BytesIO(base64.b64decode(outputs["overlay"]["data"][0])))
    assert (overlay.format, overlay.width) == ("JPEG", 64)  # no larger than the photo


@pytest.mark.parametrize("names", [["SECRET"], ["map", "map"]])
def test_an_output_that_is_unknown_or_there_twice_is_refused(model, names):
    document, _ = parse(_document(_ONE, outputs=[{"name": name} for name in names]), None)
    with pytest.raises(Refusal, match="expected some of class, label") as caught:
        response(document, model, [])
    assert "SECRET" not in str(caught.value)


def test_metadata(model):
    found = metadata(model)
    assert found["name"] == "m"
    assert {one["name"]: one["shape"] for one in found["inputs"]}["tensor"] == [-1, 3, 32, 48]
    assert {one["name"]: one["shape"] for one in found["outputs"]}["logits"] == [-1, 6]
    assert found["properties"]["gate"] == "none"


def test_small_parts(model):
    assert from_base64("YQ==") == b"a"
    assert encodable("a\ud800") == "a?"
    assert jpeg(model.explainer.explain(Image.new("RGB", (64, 64), "red")))[:2] == b"\xff\xd8"
