"""The document names every route, and answers are as it says."""

from __future__ import annotations

import base64
import io

import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.serving import app
from cfcam.runtime.serving.models import ServedModel
from cfcam.runtime.serving.openapi import document
from cfcam.runtime.serving.service import Limits, Service
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

_KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


@pytest.fixture(scope="module")
def model(tiny_path):
    return ServedModel("m", Explainer(tiny_path("logits")))


@pytest.fixture(scope="module")
def client(model):
    return TestClient(app.make_app(Service({"m": model}, Limits())), "http://localhost")


def _fits(value, schema, schemas):
    """Whether a value is as its schema says, and an object has no field that is not named there."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return any(_fits(value, one, schemas) for one in schema["anyOf"])
    if "type" not in schema:
        return True
    if schema["type"] == "null":
        return value is None
    if not isinstance(value, _KINDS[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(_fits(item, schema["items"], schemas) for item in value)
    if isinstance(value, dict):
        fields = schema["properties"]
        return set(schema.get("required", ())) <= value.keys() <= fields.keys() and all(
            _fits(item, fields[name], schemas) for name, item in value.items()
        )
    return True


def _answer_schema(found, path, method, status="200"):
    return found["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]


def test_every_route_is_described(model, monkeypatch):
    made = []
    monkeypatch.setattr(app, "Starlette", lambda **sent: made.append(Starlette(**sent)) or made[0])
    app.make_app(Service({"m": model}, Limits()))
    routes = {(r.path, m.lower()) for r in made[0].routes for m in r.methods - {"HEAD"}}  # type: ignore[attr-defined]
    described = {(path, method) for path, methods in document(["m"])["paths"].items() for method in methods}
    assert described == routes - {("/", "get")}


def test_answers_are_as_described(client):
    found = client.get("/openapi.json").json()
    schemas = found["components"]["schemas"]
    assert not _fits({"live": 1}, {"$ref": "#/components/schemas/Live"}, schemas)  # it can fail
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    photo = base64.b64encode(file.getvalue()).decode()
    v1 = {"instances": [{"image": {"b64": photo}}], "parameters": {"map": True}}
    v2 = {"id": "7", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [photo]}]}
    for path, methods in found["paths"].items():
        address = path.format(name="m", version="1")
        for method, operation in methods.items():
            if operation["operationId"] in ("metrics", "openapi"):
                continue
            if method == "get":
                answer = client.get(address)
            else:
                answer = client.post(address, json=v2 if path.endswith("infer") else v1)
                assert _fits(v2 if path.endswith("infer") else v1, _request(operation), schemas)
            assert answer.status_code == 200
            assert _fits(answer.json(), _answer_schema(found, path, method), schemas), path
    wrong = client.post("/v1/models/m:explain", json={})
    assert _fits(wrong.json(), _answer_schema(found, "/v1/models/{name}:explain", "post", "400"), schemas)


def _request(operation):
    return operation["requestBody"]["content"]["application/json"]["schema"]


def test_a_token_is_described_where_one_is_asked_for():
    assert "security" not in document(["m"])["paths"]["/v2"]["get"]
    assert document(["m"])["security"] == []
    asked = document(["m"], token=True)
    assert asked["security"] == [{"token": []}]
    assert asked["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert asked["paths"]["/v2/health/live"]["get"]["security"] == []
