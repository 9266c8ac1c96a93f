"""Requests to the server: spoilt documents, photos, tensors, heads and compression, at the ASGI application itself."""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import io
import json
import logging
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_model
from cfcam.runtime.serving.app import make_app
from cfcam.runtime.serving.models import open_models
from cfcam.runtime.serving.service import Limits, Service
from PIL import Image

from .common import odd_json, spoil_bytes, spoil_json

__all__ = ["request"]

#: What an answer may be. A 500 is a fault of the server, whatever it was sent.
_STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 503}
#: Stands in values of most cases; no refusal and no log line may repeat it.
_SECRET = "SECRET7"
_TARGETS = ["0", "5", "red", "9", "-1", "1e3", "0x1", "", "%00", "%ff", "NaN", "9" * 400, _SECRET]
_METHODS = ["cfcam", "gradcam", "scorecam", "CFCAM", "", "../x", _SECRET]
_ODD = ["", "x", "-1", "0", "1", "9" * 30, "1.5", "٣", "\x00", _SECRET, "true", "gzip, br", "a" * 5000]

_Asked = tuple[str, str, list[tuple[str, str]], bytes]


@functools.cache
def _application() -> Callable[[Any, Any, Any], Any]:
    with tempfile.TemporaryDirectory() as folder:
        path, tail = Path(folder) / "m.cam.onnx", Path(folder) / "tail.onnx"
        tiny_model.build(tiny_model.VARIANTS["logits"], path, tail)
        models = open_models([f"m={path}"], max_pixels=200_000)
    return make_app(Service(models, Limits(body=100_000, token="t", hosts=("cam.example",))))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@functools.cache
def _photo(form: str) -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((60, 40)).convert("RGB").save(data, form)
    return data.getvalue()


def _some_photo(chance: random.Random) -> bytes:
    data = _photo(chance.choice(["JPEG", "PNG", "WEBP", "GIF"]))
    return spoil_bytes(data, chance) if chance.random() < 0.6 else data


def _document(chance: random.Random, document: Any) -> bytes:
    text = json.dumps(document) if chance.random() < 0.2 else spoil_json(document, chance)
    data = text.encode("utf-8", "surrogatepass")
    return spoil_bytes(data, chance) if chance.random() < 0.1 else data


def _v1_document(chance: random.Random) -> _Asked:
    image = {"b64": base64.b64encode(_some_photo(chance)).decode()}
    one = {"image": image, "target": chance.choice([0, 2, "red", _SECRET])}
    body = _document(chance, {"instances": [one] * chance.choice([1, 1, 2]), "parameters": {"method": "gradcam"}})
    return "POST", _path(chance, chance.choice(["/v1/models/m:predict", "/v1/models/m:explain"])), [], body


def _v1_photo(chance: random.Random) -> _Asked:
    values = [("target", _TARGETS), ("method", _METHODS), ("map", ["true", "false", *_ODD[:3]])]
    query = "&".join(f"{name}={chance.choice(some)}" for name, some in values if chance.random() < 0.3)
    headers = [("content-type", chance.choice(["image/jpeg", "image/", "image/x"]))]
    headers += [("accept", "image/jpeg")] * (chance.random() < 0.3)
    return "POST", f"/v1/models/m:explain?{query}", headers, _some_photo(chance)


def _v2_document(chance: random.Random) -> _Asked:
    image = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "data": [base64.b64encode(_some_photo(chance)).decode()],
    }
    tensor = {"name": "tensor", "datatype": "FP32", "shape": [1, 3, 32, 48], "data": [0.5] * (3 * 32 * 48)}
    target = {
        "name": "target",
        "datatype": chance.choice(["INT64", "BYTES"]),
        "shape": [1],
        "data": [chance.choice([1, "red"])],
    }
    first = image if chance.random() < 0.8 else tensor
    document: dict[str, Any] = {"id": _SECRET, "inputs": [first, target]}
    if chance.random() < 0.7:
        names = ["map", "label", "overlay", "logits", "class", _SECRET]
        document["outputs"] = [{"name": name} for name in chance.sample(names, chance.choice([1, 2]))]
    if chance.random() < 0.3:
        document["parameters"] = {"binary_data_output": True, "method": "gradcam"}
    return "POST", _path(chance, "/v2/models/m/infer"), [], _document(chance, document)


def _v2_binary(chance: random.Random) -> _Asked:
    if chance.random() < 0.5:
        photo = _some_photo(chance)
        data, datatype, shape = struct.pack("<I", len(photo)) + photo, "BYTES", [1]
    else:
        odd = chance.choice([0.0, 1.0, float("nan"), float("inf"), 3e38])
        data, datatype, shape = struct.pack("<f", odd) * (3 * 32 * 48), "FP32", [1, 3, 32, 48]
    if chance.random() < 0.4:
        data = spoil_bytes(data, chance)
    one = {"name": "image" if datatype == "BYTES" else "tensor", "datatype": datatype, "shape": shape}
    size = len(data) if chance.random() < 0.7 else chance.choice([0, 1, len(data) - 1, len(data) + 1, 2**31])
    head = _document(chance, {"inputs": [{**one, "parameters": {"binary_data_size": size}}]})
    length = str(len(head)) if chance.random() < 0.8 else chance.choice(_ODD)
    return "POST", "/v2/models/m/infer", [("inference-header-content-length", length)], head + data


def _read(chance: random.Random) -> _Asked:
    paths = ["/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/m", "/v2/models/m/ready", "/v1/models"]
    paths += [
        "/v1/models/m",
        "/v1/models/m:labels",
        "/metrics",
        "/openapi.json",
        "/v2/models/m/infer",
        "/v1/models/m:explain",
    ]
    method = chance.choice(["GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", _SECRET])
    return method, _path(chance, chance.choice(paths), 0.5), [], b"" if method == "GET" else b"{}"


def _path(chance: random.Random, path: str, often: float = 0.05) -> str:
    """The path, or one that has an odd part."""
    if chance.random() >= often:
        return path
    parts = path.split("/")
    parts[chance.randrange(len(parts))] = chance.choice(
        [*_ODD, "..", "m:explain", "%2e%2e", "versions/1", "\u202e", "m" * 9000]
    )
    return "/".join(parts)


_KINDS = (_v1_document, _v1_photo, _v2_document, _v2_binary, _read)


def _compressed(chance: random.Random, body: bytes, headers: list[tuple[str, str]]) -> bytes:
    encoding = chance.choice(["gzip", "deflate", "br", "GZIP", "identity", _SECRET])
    headers.append(("content-encoding", encoding))
    packed = gzip.compress(body, 1) if chance.random() < 0.5 else zlib.compress(body, 1)
    return spoil_bytes(packed, chance) if chance.random() < 0.3 else packed


def request(chance: random.Random, folder: Path) -> None:
    """It is answered, or refused by a sentence in JSON that repeats nothing of it; never by a 500."""
    method, address, headers, body = chance.choice(_KINDS)(chance)
    if body and chance.random() < 0.15:
        body = _compressed(chance, body, headers)
    headers += [("host", "localhost"), ("authorization", "Bearer t"), ("content-length", str(len(body)))]
    if chance.random() < 0.15:
        at = chance.randrange(len(headers))
        headers[at] = (headers[at][0], chance.choice([*_ODD, odd_json(chance)[:200]]))
    if chance.random() < 0.1:
        name = chance.choice(["accept-encoding", "origin", "transfer-encoding", "content-type", "expect", "x-y"])
        headers.append((name, chance.choice(_ODD)))
    parts = [body] if chance.random() < 0.8 else [body[: len(body) // 2], body[len(body) // 2 :]]
    gone = chance.random() < 0.03
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("cfcam").addHandler(handler)
    try:
        status, sent, answer = _loop().run_until_complete(_answered(method, address, headers, parts, gone))
    finally:
        logging.getLogger("cfcam").removeHandler(handler)
    assert status in _STATUSES, (status, [record.getMessage() for record in records])
    assert not records, [record.getMessage() for record in records]
    if status >= 400 and method != "HEAD" and address != "/v2/health/ready":
        error = json.loads(answer)
        assert list(error) == ["error"], error
        assert error["error"].isprintable()
        assert _SECRET not in answer.decode(), answer
    assert int(sent.get(b"content-length", b"-1")) == len(answer) or method == "HEAD"


async def _answered(
    method: str, address: str, headers: list[tuple[str, str]], parts: list[bytes], gone: bool
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body. gone: the client goes away before the last part."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode("utf-8", "replace"),
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode("utf-8", "replace")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    incoming: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)
    ]
    if gone:
        incoming[-1] = {"type": "http.disconnect"}
    outgoing: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        outgoing.append(message)

    await _application()(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in outgoing[1:])
    return outgoing[0]["status"], dict(outgoing[0]["headers"]), body
