"""The routes, by Starlette's client."""

from __future__ import annotations

import base64
import io
import logging
import threading

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.contract.modelfile import file_sha256
from cfcam.runtime.profile import Profile, Usual, write_profile
from cfcam.runtime.serving.app import make_app
from cfcam.runtime.serving.models import ServedModel, open_models
from cfcam.runtime.serving.service import Limits, Service
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

_HOST = "http://localhost"


def _png(color="red", size=(64, 64)):
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, "PNG")
    return data.getvalue()


def _client(model, draining=lambda: False, **limits):
    return TestClient(make_app(Service({model.name: model}, Limits(**limits), draining)), _HOST)


@pytest.fixture(scope="module")
def model(tiny_path):
    return ServedModel("m", Explainer(tiny_path("logits")), max_pixels=10_000)


@pytest.fixture(scope="module")
def client(model):
    return _client(model)


def _b64(**more):
    return {"image": {"b64": base64.b64encode(_png()).decode()}, **more}


def test_health_and_metadata(client, model):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "cfcam"
    assert client.get("/v1/models").json() == {"models": ["m"]}
    assert client.get("/v1/models/m").json() == {"name": "m", "ready": True}
    for path in ("/v2/models/m", "/v2/models/m/versions/1"):
        assert client.get(path).json()["platform"] == "cfcam"
        assert client.get(path + "/ready").status_code == 200


def test_not_ready_while_draining_or_broken(tiny_path, model):
    draining = _client(model, lambda: True)
    assert draining.get("/v2/health/ready").status_code == 503
    assert draining.get("/v1/models/m").status_code == 503
    assert draining.get("/v2/health/live").status_code == 200
    broken = ServedModel("b", Explainer(tiny_path("logits")))
    broken.explainer.close()
    assert _client(broken).get("/v2/health/ready").status_code == 503
    assert _client(broken).post("/v1/models/b:explain", json={"instances": [_b64()]}).status_code == 500


def test_infer(client, model):
    tensor = np.random.default_rng(1).standard_normal((1, 3, 32, 48)).astype(np.float32)
    body = {"inputs": [{"name": "tensor", "datatype": "FP32", "shape": tensor.shape, "data": tensor.tolist()}]}
    answer = client.post("/v2/models/m/infer", json=body).json()
    outputs = {one["name"]: one for one in answer["outputs"]}
    expected = model.explainer.explain(tensor)
    np.testing.assert_allclose(np.reshape(outputs["map"]["data"], (32, 48)), expected.map)
    assert outputs["label"]["data"] == [expected.label]


def test_explain_and_predict(client, model):
    expected = model.explainer.explain(Image.new("RGB", (64, 64), "red"))
    answer = client.post("/v1/models/m:explain", json={"instances": [_b64(), _b64(target="green")]}).json()
    first, second = answer["explanations"]
    assert (first["class"], first["label"], second["label"]) == (0, "red", "green")
    assert first["probability"] == pytest.approx(expected.probability)
    assert first["peak"] == pytest.approx(expected.peak)
    (prediction,) = client.post("/v1/models/m:predict", json={"instances": [_b64()]}).json()["predictions"]
    assert prediction["label"] == "red"
    assert "peak" not in prediction


def test_a_raw_photo_and_a_picture_of_it(client):
    sent = {"content": _png("blue"), "headers": {"content-type": "image/png"}}
    answer = client.post("/v1/models/m:explain?target=red", **sent).json()
    assert answer["explanations"][0]["label"] == "red"
    sent["headers"]["accept"] = "image/jpeg"
    picture = client.post("/v1/models/m:explain", **sent)
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).format == "JPEG"
    two = client.post("/v1/models/m:explain", json={"instances": [_b64()] * 2}, headers={"accept": "image/jpeg"})
    assert two.status_code == 400


def test_a_map_for_the_photo_where_it_is_asked_for(client, model):
    sent = {"content": _png("blue"), "headers": {"content-type": "image/png"}}
    (raw,) = client.post("/v1/models/m:explain?map=true", **sent).json()["explanations"]
    document = {"instances": [{"image": {"b64": base64.b64encode(_png("blue")).decode()}}], "parameters": {"map": True}}
    (entry,) = client.post("/v1/models/m:explain", json=document).json()["explanations"]
    assert entry == raw
    levels = np.array(Image.open(io.BytesIO(base64.b64decode(raw["map"]["png"]))))
    expected = model.explainer.explain(Image.new("RGB", (64, 64), "blue"))
    np.testing.assert_array_equal(levels, np.rint(expected.map * 255))
    assert "map" not in client.post("/v1/models/m:explain", **sent).json()["explanations"][0]
    assert "map" not in client.post("/v1/models/m:predict?map=true", **sent).json()["predictions"][0]


def test_labels(client):
    found = client.get("/v1/models/m:labels").json()["labels"]
    assert (found[0], found[-1]) == ("red", "nothing")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_long_answers_are_compressed_where_asked(client, encoding):
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [_b64()["image"]["b64"]]}]}
    answer = client.post("/v2/models/m/infer", json=body, headers={"accept-encoding": encoding})
    assert answer.headers["content-encoding"] == encoding
    assert answer.json()["model_name"] == "m"


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/v2/models/SECRET/infer", {"json": {}}, 404),
        ("/v2/models/m/versions/2/infer", {"json": {}}, 404),
        ("/SECRET", {"json": {}}, 404),
        ("/v1/models", {"json": {}}, 405),
        ("/v1/models/m:explain", {"json": {"SECRET": 1}}, 400),
        ("/v1/models/m:explain", {"json": {"instances": [{"image": {"b64": "SECRET="}}]}}, 400),
        ("/v1/models/m:explain", {"json": {"instances": [_b64(target="SECRET")]}}, 400),
        ("/v1/models/m:explain?map=SECRET", {"content": _png(), "headers": {"content-type": "image/png"}}, 400),
        ("/v1/models/m:explain?target=9", {"content": _png(), "headers": {"content-type": "image/png"}}, 400),
        ("/v1/models/m:explain", {"content": b"SECRET", "headers": {"content-type": "image/png"}}, 400),
        ("/v1/models/m:explain", {"content": b"", "headers": {"content-type": "image/png"}}, 400),
        ("/v1/models/m:explain", {"content": _png()[:-40], "headers": {"content-type": "image/png"}}, 400),
        ("/v1/models/m:explain", {"content": _png(size=(101, 100)), "headers": {"content-type": "image/png"}}, 400),
        ("/v1/models/m:explain", {"content": b"{}", "headers": {"content-encoding": "br"}}, 415),
        ("/v1/models/m:explain", {"content": b"x" * 30_000}, 413),
        ("/v1/models/m:explain", {"content": iter([b"x" * 15_000] * 2)}, 413),
    ],
)
def test_wrong_requests(model, path, sent, status, caplog):
    answer = _client(model, body=20_000).post(path, **sent)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert "SECRET" not in answer.text + caplog.text


def test_metrics_count_requests_by_what_became_of_them(model):
    client = _client(model, token="t")
    sent = {"content": _png(), "headers": {"content-type": "image/png", "authorization": "Bearer t"}}
    assert client.post("/v1/models/m:explain", **sent).status_code == 200
    assert client.post("/v1/models/SECRET:explain", **sent).status_code == 404
    assert client.post("/v2/models/m/infer", **sent).status_code == 400
    assert client.post("/v1/models/m:explain").status_code == 401
    assert client.get("/metrics").status_code == 401
    answer = client.get("/metrics", headers={"authorization": "Bearer t"})
    assert answer.headers["content-type"].startswith("text/plain; version=")
    values = {s.name: s for family in text_string_to_metric_families(answer.text) for s in family.samples}
    counts = {
        tuple(s.labels.values()): s.value
        for family in text_string_to_metric_families(answer.text)
        for s in family.samples
        if s.name == "cfcam_requests_total"
    }
    assert counts == {
        ("m", "ok", "v1"): 1,
        ("", "wrong", "v1"): 1,
        ("m", "wrong", "v2"): 1,
        ("", "denied", "v1"): 1,
        ("", "denied", "v2"): 1,
    }
    assert values["cfcam_images_total"].value == 1
    assert values["cfcam_explain_seconds_count"].value == 1
    assert values["cfcam_requests_in_progress"].value == 0
    assert "SECRET" not in answer.text


def test_token_and_host(model):
    client = _client(model, token="t")
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers={"authorization": "Bearer t"}).status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/").status_code == 200  # the page asks for the token
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/v1/models", headers={"host": "evil.example"}).status_code == 403


def test_too_many_and_too_late(model, monkeypatch):
    go, entered = threading.Event(), threading.Event()

    def slow(questions):
        entered.set()
        go.wait(30)
        return []

    monkeypatch.setattr(model, "answers", slow)
    client = _client(model, waiting=0, deadline=0.05)
    sent = {"content": _png(), "headers": {"content-type": "image/png"}}
    late = client.post("/v1/models/m:predict", **sent)
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert "deadline" in late.text
    assert entered.is_set()
    assert "busy" in client.post("/v1/models/m:predict", **sent).text  # the thread still has its place
    go.set()


def test_an_internal_error_says_nothing_of_the_request(model, monkeypatch, caplog):
    def broken(questions):
        raise RuntimeError("SECRET")

    monkeypatch.setattr(model, "answers", broken)
    with caplog.at_level(logging.ERROR):
        answer = _client(model).post("/v1/models/m:predict", json={"instances": [_b64()]})
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert "RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_monitored_file_says_how_unusual_an_explanation_is(tiny_path, tmp_path):
    path = tiny_path("logits")
    usual = Usual(100, 0.0, 0.01, 0.01, 0.0, 0.01)  # no map is so small
    write_profile(tmp_path / "p.json", Profile(file_sha256(path), "cfcam", 100, 0.0, {"area": usual}))
    (model,) = open_models([f"m={path}"], profiles=[str(tmp_path / "p.json")]).values()
    client = _client(model)
    (entry,) = client.post("/v1/models/m:explain", json={"instances": [_b64()]}).json()["explanations"]
    assert (entry["monitor"]["outlier"], entry["monitor"]["column"]) == (True, "area")
    (entry,) = client.post("/v1/models/m:predict", json={"instances": [_b64(target=2)]}).json()["predictions"]
    assert entry["monitor"] == {"outlier": False, "distance": None, "column": None}
    sent = {"content": _png(), "headers": {"content-type": "image/png", "accept": "image/jpeg"}}
    assert client.post("/v1/models/m:explain", **sent).headers["cfcam-outlier"] == "true"
    photos = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [_b64()["image"]["b64"]] * 2}
    targets = {"name": "target", "datatype": "INT64", "shape": [2], "data": [0, 1]}
    answer = client.post("/v2/models/m/infer", json={"inputs": [photos, targets]}).json()
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    assert outputs["outlier"] == [True, False]
    assert outputs["distance"][0] > 5
    assert outputs["distance"][1] is None  # of another class than the predicted one the profile says nothing
    lines = client.get("/metrics").text.splitlines()
    assert 'cfcam_monitor_seen_total{model="m"} 5.0' in lines
    assert 'cfcam_monitor_outliers_total{column="area",model="m"} 3.0' in lines
    assert 'cfcam_monitor_not_compared_total{model="m"} 2.0' in lines
