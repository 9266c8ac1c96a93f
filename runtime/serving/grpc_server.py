"""The Open Inference Protocol over gRPC, beside the server for HTTP and with the same limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from ..errors import OutputError
from . import grpc_tensors
from .grpc_tensors import pb
from .limits import Admission, Refusal, check_token
from .service import Service, TooLate, said_of

__all__ = ["GrpcServer"]

_SERVICE = "inference.GRPCInferenceService"
#: What gRPC's own health protocol is called: probes of Kubernetes, load balancers and grpc-health-probe ask it.
_HEALTH = "grpc.health.v1.Health"
#: Seconds for the message of a probe, which is a name and never late: anybody may ask, and holds a place meanwhile.
_PROBE_SECONDS = 1.0
#: Seconds for a message. How much of it has come is not known, so there is no more time for a long one.
_SECONDS = 20.0
#: Bytes of the longest message that is no inference, and how many of them are read at a time.
_SMALL = 65536
_SMALL_CALLS = 64

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}


@dataclass(frozen=True)
class _Call:
    """How one call of the protocol is answered."""

    request: type[Any]
    answer: Callable[[Any], Awaitable[Any]]
    public: bool = False


class GrpcServer:
    """What `server.serve` starts beside HTTP.

    Args:
        service: What answers, and what requests may cost.
        host: Where to listen: an address, or a name.
        port: Of that address. One that other processes of this user share with `SO_REUSEPORT` is shared.
        tls: Files of the certificate and its key, in PEM.
        seconds: For a message.
    """

    def __init__(
        self,
        service: Service,
        host: str,
        port: int,
        tls: tuple[str, str] | None = None,
        seconds: float = _SECONDS,
    ) -> None:
        self.port = port
        self._service, self._host, self._tls, self._seconds = service, host, tls, seconds
        self._server: Any = None
        self._small_calls, self._probes = Admission(_SMALL_CALLS), Admission(_SMALL_CALLS)
        self._calls = {
            "ServerLive": _Call(pb.ServerLiveRequest, self._live, public=True),
            "ServerReady": _Call(pb.ServerReadyRequest, self._ready, public=True),
            "ModelReady": _Call(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": _Call(pb.ServerMetadataRequest, self._about),
            "ModelMetadata": _Call(pb.ModelMetadataRequest, self._model),
        }

    async def start(self) -> None:
        """Listen, in the running loop. Raises `OutputError` where the address cannot be used."""
        # A message that is too long ends in an error of the library, which logs it with a traceback.
        logging.getLogger("grpc").setLevel(logging.CRITICAL)
        limits = self._service.limits
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limits.body),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 1),
                ("grpc.server_handshake_timeout_ms", 5000),
            ],
        )
        # One message each, as the protocol says; but as streams, so that access and room are there before it is read.
        handlers = {name: _handler(self._small(call)) for name, call in self._calls.items()}
        handlers["ModelInfer"] = _handler(self._infer)
        health = {"Check": _handler(self._health)}
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(_SERVICE, handlers),
                grpc.method_handlers_generic_handler(_HEALTH, health),
            ]
        )
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            if self._tls is None:
                self.port = self._server.add_insecure_port(f"{host}:{self.port}")
            else:
                cert, key = (Path(file).read_bytes() for file in self._tls)
                credentials = grpc.ssl_server_credentials([(key, cert)])
                self.port = self._server.add_secure_port(f"{host}:{self.port}", credentials)
        except RuntimeError:
            raise OutputError(
                f"{host}:{self.port}: cannot be listened on for gRPC: stop what uses it, or give another --grpc-port"
            ) from None
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no new calls; those in flight have `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)

    async def _message(self, context: Any, most: int, seconds: float | None = None) -> bytes:
        try:
            data = await asyncio.wait_for(context.read(), self._seconds if seconds is None else seconds)
        except asyncio.TimeoutError:
            raise Refusal(408, "the message came too slowly: send it again") from None
        if not isinstance(data, bytes):
            raise Refusal(400, "the call ended before its message")
        if len(data) > most:
            raise Refusal(413, f"the message is longer than {most} bytes")
        return data

    def _small(self, call: _Call) -> Callable[[Any], Awaitable[Any]]:
        async def answer(context: Any) -> Any:
            if call.public:  # its message is empty: nobody can hold a place by sending none
                return await call.answer(call.request())
            self._check(context)
            with self._small_calls.admitted():
                data = await self._message(context, _SMALL)
            return await call.answer(grpc_tensors.decoded(call.request, data))

        return answer

    async def _infer(self, context: Any) -> Any:
        service = self._service
        with service.metrics.request("grpc") as counted:
            self._check(context)
            with service.admission.admitted() as place:
                data = await self._message(context, service.limits.body)
                service.metrics.body("grpc", len(data))

                def work() -> Any:
                    request = grpc_tensors.decoded(pb.ModelInferRequest, data)
                    model = service.model(request.model_name, request.model_version or "1")
                    counted.model = model.name
                    explanations = service.answers(model, grpc_tensors.questions(request))
                    return grpc_tensors.response(request, model, explanations)

                return await service.run(work, place, context.time_remaining())

    def _check(self, context: Any) -> None:
        # No web page can speak gRPC, so there is no name of a host to be checked.
        headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        check_token(headers, self._service.limits.token)

    async def _health(self, context: Any) -> Any:
        """Readiness by gRPC's health protocol: of the server, or of its only service; without a token."""
        with self._probes.admitted():
            data = await self._message(context, _SMALL, _PROBE_SECONDS)
        if grpc_tensors.decoded(health_pb2.HealthCheckRequest, data).service not in ("", _SERVICE):
            raise Refusal(404, f"no such service: ask for '{_SERVICE}', or for none")
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if await self._service.ready() else status.NOT_SERVING)

    async def _live(self, request: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, request: Any) -> Any:
        return pb.ServerReadyResponse(ready=await self._service.ready())

    async def _model_ready(self, request: Any) -> Any:
        self._service.model(request.name, request.version or "1")
        return pb.ModelReadyResponse(ready=not self._service.draining())

    async def _about(self, request: Any) -> Any:
        return pb.ServerMetadataResponse(name="cfcam", version=version("cfcam"))

    async def _model(self, request: Any) -> Any:
        return grpc_tensors.metadata(self._service.model(request.name, request.version or "1"))


def _handler(answer: Callable[[Any], Awaitable[Any]]) -> Any:
    async def handle(_: Any, context: Any) -> bytes:
        try:
            return (await answer(context)).SerializeToString()
        except Exception as error:
            refusal = said_of(error)
        code = _CODES.get(refusal.status, grpc.StatusCode.INTERNAL)
        if isinstance(refusal, TooLate):
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        again = (("grpc-retry-pushback-ms", "1000"),) if code is grpc.StatusCode.UNAVAILABLE else ()
        await context.abort(code, str(refusal), again)
        raise AssertionError  # abort raises

    return grpc.stream_unary_rpc_method_handler(handle)
