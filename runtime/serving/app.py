"""The routes: health, metadata and inference of V2, and ``:predict`` and ``:explain`` of KServe's V1."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import CfcamError
from . import v1, v2
from .limits import Refusal, check_access, inflated, read_body
from .models import ServedModel
from .page import page
from .service import Service, said_of

__all__ = ["make_app"]


_Endpoint = Callable[[Request], Awaitable[Response]]


class _Routes:
    def __init__(self, service: Service) -> None:
        self.service = service

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = await self.service.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def about(self, request: Request) -> Response:
        from importlib.metadata import version

        return _json({"name": "cfcam", "version": version("cfcam"), "extensions": ["binary_tensor_data"]})

    async def model(self, request: Request) -> Response:
        return _json(v2.metadata(self._model(request)))

    async def model_ready(self, request: Request) -> Response:
        name, ready = self._model(request).name, not self.service.draining()
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    async def list_models(self, request: Request) -> Response:
        return _json({"models": list(self.service.models)})

    async def labels(self, request: Request) -> Response:
        output = self._model(request).explainer.spec.output
        found = [v2.encodable(output.label(index)) for index in range(output.classes)]
        return _compressed(request, to_json({"labels": found}), "application/json", {})

    async def described(self, request: Request) -> Response:
        from . import openapi  # its models take time, and few ask

        return _json(openapi.document(list(self.service.models), token=self.service.limits.token is not None))

    async def metrics(self, request: Request) -> Response:
        text, kind = await asyncio.to_thread(self.service.metrics.text, request.headers.get("accept", ""))
        return Response(text, media_type=kind)

    def counted(self, protocol: str, answer: _Endpoint) -> _Endpoint:
        async def endpoint(request: Request) -> Response:
            name = request.path_params["name"]
            with self.service.metrics.request(protocol, name if name in self.service.models else ""):
                return await answer(request)

        return endpoint

    async def infer(self, request: Request) -> Response:
        model = self._model(request)
        with self.service.admission.admitted() as place:
            body = await self._body(request, "v2")
            length = request.headers.get("inference-header-content-length")

            def work() -> tuple[bytes, int | None]:
                document, binary = v2.parse(body, length)
                asked = v2.questions(document, binary, model.name)
                return v2.response(document, model, self.service.answers(model, asked))

            data, end = await self.service.run(work, place)
        headers = {} if end is None else {"inference-header-content-length": str(end)}
        kind = "application/json" if end is None else "application/octet-stream"
        return _compressed(request, data, kind, headers)

    async def predict(self, request: Request) -> Response:
        return await self._v1(request, "predictions")

    async def explain(self, request: Request) -> Response:
        return await self._v1(request, "explanations")

    async def _v1(self, request: Request, kind: str) -> Response:
        model = self._model(request)
        picture = kind == "explanations" and "image/jpeg" in request.headers.get("accept", "")
        with self.service.admission.admitted() as place:
            body = await self._body(request, "v1")
            raw = request.headers.get("content-type", "").startswith("image/")
            query = request.query_params
            headers: dict[str, str] = {}

            def work() -> bytes:
                asked, with_map = v1.asked_of_photo(body, query) if raw else v1.asked(body)
                if picture and len(asked) != 1:
                    raise Refusal(400, "a picture is the answer to one image: send one, or accept application/json")
                found = self.service.answers(model, asked)
                if picture:
                    if model.watch is not None:
                        headers["cfcam-outlier"] = str(model.watch.of(found[0]).outlier).lower()
                    return v2.jpeg(found[0], legend=True)
                entries = [v1.entry(e, kind, with_map) for e in found]
                if model.watch is not None:
                    for entry, explanation in zip(entries, found, strict=True):
                        entry["monitor"] = asdict(model.watch.of(explanation))
                return to_json({kind: entries}, inf_nan_mode="null")

            data = await self.service.run(work, place)
        return _compressed(request, data, "image/jpeg" if picture else "application/json", headers)

    def _model(self, request: Request) -> ServedModel:
        return self.service.model(request.path_params["name"], request.path_params.get("version", "1"))

    async def _body(self, request: Request, protocol: str) -> bytes:
        body = await read_body(request.headers, request.receive, self.service.limits.body)
        self.service.metrics.body(protocol, len(body))
        return inflated(body, request.headers.get("content-encoding", ""), self.service.limits.body)


def _json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(document), status, dict(headers or {}), "application/json")


def _compressed(request: Request, data: bytes, kind: str, headers: dict[str, str]) -> Response:
    accepted = [part.split(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")]
    encoding = next((name for name in ("gzip", "deflate") if name in accepted), None)
    if encoding is not None and kind != "image/jpeg" and len(data) > 1024:
        packer = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
        data = packer.compress(data) + packer.flush()
        headers |= {"content-encoding": encoding, "vary": "accept-encoding"}
    return Response(data, 200, headers, kind)


async def _failed(request: Request, error: Any) -> Response:
    if isinstance(error, HTTPException):
        words = {404: "there is no such path", 405: "this path takes another method"}
        return _json({"error": words.get(error.status_code, "the request is wrong")}, error.status_code, error.headers)
    refusal = said_of(error)
    return _json({"error": str(refusal)}, refusal.status, refusal.headers)


def make_app(service: Service) -> Any:
    """The ASGI application.

    Args:
        service: What answers, and what requests may cost.

    Returns:
        An application without lifespan.
    """
    server, limits = _Routes(service), service.limits
    base = "/v2/models/{name}"
    routes = [
        Route("/", page),
        Route("/v2/health/live", server.live),
        Route("/v2/health/ready", server.ready),
        Route("/v2", server.about),
        Route("/v1/models", server.list_models),
        Route("/openapi.json", server.described),
        Route("/metrics", server.metrics),
        Route("/v1/models/{name}:predict", server.counted("v1", server.predict), methods=["POST"]),
        Route("/v1/models/{name}:explain", server.counted("v1", server.explain), methods=["POST"]),
        Route("/v1/models/{name}:labels", server.labels),
        Route("/v1/models/{name}", server.model_ready),
    ]
    for start in (base, base + "/versions/{version}"):
        routes += [
            Route(start, server.model),
            Route(start + "/ready", server.model_ready),
            Route(start + "/infer", server.counted("v2", server.infer), methods=["POST"]),
        ]
    handlers: Any = {CfcamError: _failed, HTTPException: _failed, Exception: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a path with one more is another path

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            public = scope["path"] == "/" or scope["path"].startswith("/v2/health/")
            check_access(request.headers, limits.token, limits.hosts, public=public)
        except Refusal as refusal:
            service.metrics.denied("v1" if scope["path"].startswith("/v1/") else "v2")
            await (await _failed(request, refusal))(scope, receive, send)
            return
        # `_failed` has answered by then; Starlette raises the error once more, for a server that would log its data.
        with contextlib.suppress(Exception):
            await app(scope, receive, send)

    return guarded
