"""What the server answers to, as an OpenAPI document: the models that check requests, and those of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from . import v1, v2

__all__ = ["document"]


class Error(BaseModel):
    """What went wrong, in a sentence."""

    error: str


class Live(BaseModel):
    """Whether the process answers."""

    live: bool


class Ready(BaseModel):
    """Whether every model explains a built-in photo."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model can be asked."""

    name: str
    ready: bool


class ModelList(BaseModel):
    """Names of the models that are served."""

    models: list[str]


class Labels(BaseModel):
    """Labels of the classes, in their order."""

    labels: list[str]


class About(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or output. -1 is the number of images."""

    name: str
    datatype: str
    shape: list[int]


class Properties(BaseModel):
    """What the file says of itself."""

    gate: str
    layer: str
    method: str


class ModelMetadata(BaseModel):
    """A model, its inputs and its outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: Properties


class AnswerParameters(BaseModel):
    """How an output is sent: bytes of its binary data, or the encoding of its text."""

    binary_data_size: int | None = None
    encoding: str | None = None


class AnswerTensor(BaseModel):
    """An output: row by row in `data`, or as binary data."""

    name: str
    datatype: str
    shape: list[int]
    parameters: AnswerParameters | None = None
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """The answer to an inference."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[AnswerTensor]


class Top(BaseModel):
    """One of the likeliest classes."""

    class_: int = Field(alias="class")
    label: str
    probability: float


class Observed(BaseModel):
    """What the monitor says: a distance from the profile, and by which column; null where nothing was compared."""

    distance: float | None
    column: str | None
    outlier: bool


class Prediction(BaseModel):
    """A prediction. For a regression, `value` and its `unit` instead of `probability`."""

    class_: int = Field(alias="class")
    label: str
    probability: float | None = None
    value: float | None = None
    unit: str | None = None
    top: list[Top]
    monitor: Observed | None = None


class MapOnPhoto(BaseModel):
    """The map as a PNG file, and the (left, top, right, bottom) of its place, as fractions of the photo."""

    png: str = Field(json_schema_extra={"contentEncoding": "base64"})
    box: list[float] = Field(min_length=4, max_length=4)


class Explained(Prediction):
    """A prediction and what explains it. `peak`: (x, y) as fractions of the photo. `reason`: why a map is empty."""

    peak: list[float] | None = None
    empty: bool
    reason: str | None = None
    notes: list[str] | None = None
    map: MapOnPhoto | None = None


class Predictions(BaseModel):
    """One per image."""

    predictions: list[Prediction]


class Explanations(BaseModel):
    """One per image."""

    explanations: list[Explained]


_ASKED = (v2.InferRequest, v1.Instances)
_ANSWERED = (
    *(Error, Live, Ready, ModelReady, ModelList, Labels, About, ModelMetadata),
    *(InferResponse, Predictions, Explanations),
)
_ERRORS = {
    400: "The request is wrong, or the photo cannot be read.",
    401: "The token is missing, or another one.",
    403: "The host or the origin is not known.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too long, or the photos have too many pixels.",
    415: "The body is compressed in an unknown way.",
    422: "The model overflows on these values.",
    500: "The server is at fault.",
    503: "Too many requests wait, or the answer took too long.",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def document(models: Sequence[str], *, token: bool = False) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        models: Names of those that are served.
        token: Whether a bearer token is asked for.

    Returns:
        What `/openapi.json` answers.
    """
    _, schemas = models_json_schema(
        [*((kind, "validation") for kind in _ASKED), *((kind, "serialization") for kind in _ANSWERED)],
        ref_template="#/components/schemas/{model}",
    )
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": list(models)}}
    number = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "enum": ["1"]}}
    paths: dict[str, Any] = {
        "/v2/health/live": {"get": _get("live", "Whether the process answers.", Live, public=True)},
        "/v2/health/ready": {
            "get": _get("ready", "Whether all models can be asked.", Ready, unready=True, public=True)
        },
        "/v2": {"get": _get("about", "The server.", About)},
        "/v1/models": {"get": _get("models", "Names of the models.", ModelList)},
        "/v1/models/{name}": {"get": _get("v1Ready", "Whether a model can be asked.", ModelReady, name, unready=True)},
        "/v1/models/{name}:labels": {"get": _get("labels", "Labels of a model's classes.", Labels, name)},
        "/v1/models/{name}:predict": {"post": _v1("predict", "Predict.", Predictions, name)},
        "/v1/models/{name}:explain": {"post": _v1("explain", "Predict and explain.", Explanations, name)},
        "/metrics": {"get": _answered("metrics", "Counters for Prometheus.", {"text/plain": {}})},
        "/openapi.json": {"get": _answered("openapi", "This document.", {"application/json": {}})},
    }
    for start, suffix, more in (
        ("/v2/models/{name}", "", (name,)),
        ("/v2/models/{name}/versions/{version}", "Version", (name, number)),
    ):
        paths[start] = {"get": _get(f"model{suffix}", "A model, its inputs and outputs.", ModelMetadata, *more)}
        paths[start + "/ready"] = {
            "get": _get(f"modelReady{suffix}", "Whether a model can be asked.", ModelReady, *more, unready=True)
        }
        paths[start + "/infer"] = {"post": _infer(f"infer{suffix}", more)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cfcam",
            "version": version("cfcam"),
            "description": "Predictions and what explains them: the Open Inference Protocol (V2) and KServe's V1.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}} if token else {},
        },
        "security": [{"token": []}] if token else [],
    }


def _json(kind: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}


def _answered(operation: str, summary: str, content: dict[str, Any], *parameters: Any, **more: Any) -> dict[str, Any]:
    errors = {str(status): {"description": text, "content": _json(Error)} for status, text in _ERRORS.items()}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": {"description": "The answer.", "content": content}, **errors},
        **more,
    }


def _get(
    operation: str,
    summary: str,
    kind: type[BaseModel],
    *parameters: Any,
    unready: bool = False,
    public: bool = False,
) -> dict[str, Any]:
    found = _answered(operation, summary, _json(kind), *parameters, **({"security": []} if public else {}))
    if unready:
        found["responses"]["503"] = {"description": "Not now.", "content": _json(kind)}
    return found


def _v1(operation: str, summary: str, kind: type[BaseModel], name: Any) -> dict[str, Any]:
    query = [
        {"name": key, "in": "query", "description": text, "schema": schema}
        for key, text, schema in (
            ("target", "Of a raw photo: the class, by its number or label.", {"type": "string"}),
            ("method", "Of a raw photo: the method.", {"type": "string"}),
            ("map", "Of a raw photo: whether the map is answered.", {"type": "string", "enum": ["true", "false"]}),
        )
    ]
    content = _json(kind)
    if kind is Explanations:  # for who accepts a picture
        content["image/jpeg"] = _BINARY
    body = {"required": True, "content": {**_json(v1.Instances), "image/*": _BINARY}}
    return _answered(operation, summary, content, name, *query, requestBody=body)


def _infer(operation: str, parameters: Sequence[Any]) -> dict[str, Any]:
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Bytes of the JSON document, where binary data follow it.",
        "schema": {"type": "integer", "minimum": 0},
    }
    body = {"required": True, "content": {**_json(v2.InferRequest), "application/octet-stream": _BINARY}}
    content = {**_json(InferResponse), "application/octet-stream": _BINARY}
    return _answered(operation, "Predict and explain.", content, *parameters, length, requestBody=body)
