"""Documents of V1 to questions, and explanations to documents."""

from __future__ import annotations

import json

import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.serving.limits import Refusal
from cfcam.runtime.serving.v1 import asked, asked_of_photo, entry
from PIL import Image


def test_a_document():
    one = {"image": {"b64": "YQ=="}}
    document = {"instances": [one, {**one, "target": 2}], "parameters": {"target": "red", "method": "gradcam"}}
    questions, with_map = asked(json.dumps(document).encode())
    assert [(q.image, q.target, q.method) for q in questions] == [(b"a", "red", "gradcam"), (b"a", 2, "gradcam")]
    assert not with_map


@pytest.mark.parametrize(
    "document", [{}, {"instances": []}, {"instances": [{"image": {"b64": "?"}}]}, {"instances": [{"image": "YQ=="}]}]
)
def test_wrong_documents(document):
    with pytest.raises(Refusal) as caught:
        asked(json.dumps(document).encode())
    assert caught.value.status == 400


def test_a_raw_photo():
    (question,), with_map = asked_of_photo(b"a", {"target": "3", "map": "true"})
    assert (question.image, question.target, question.method, with_map) == (b"a", "3", None, True)
    with pytest.raises(Refusal, match="expected true or false"):
        asked_of_photo(b"a", {"map": "1"})


def test_what_is_answered(tiny_path):
    explanation = Explainer(tiny_path("logits")).explain(Image.new("RGB", (64, 64), "red"))
    prediction = entry(explanation, "predictions", with_map=True)
    assert (prediction["class"], prediction["label"]) == (0, "red")
    assert prediction["top"][0]["class"] == 0
    assert not {"peak", "map"} & prediction.keys()
    explained = entry(explanation, "explanations", with_map=False)
    assert explained["peak"] == list(explanation.peak or ())
    assert "map" not in explained
    assert "png" in entry(explanation, "explanations", with_map=True)["map"]
