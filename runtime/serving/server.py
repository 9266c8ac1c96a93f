"""One process that answers: uvicorn, with a limit for how slowly a request's head may come."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import OutputError
from .sharing import Acceptor, Turn

__all__ = ["BACKLOG", "Beside", "bound_socket", "serve"]

#: Connections that wait to be taken.
BACKLOG = 2048

#: Seconds for the head of a request, from the connection or from its first byte on.
_SECONDS = 5.0


class LimitedProtocol(H11Protocol):
    """HTTP/1.1, closed where the head of a request is not whole after five seconds."""

    seconds = _SECONDS
    turn: Turn | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)
        if self.turn is not None:
            self.turn.add(-1)

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Beside(Protocol):
    """A server of another protocol, in the same process and loop."""

    async def start(self) -> None:
        """Listen."""
        ...

    async def stop(self, grace: float) -> None:
        """Take no new requests; those in flight have `grace` seconds."""
        ...


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        draining: threading.Event,
        linger: float,
        beside: Beside | None,
        announce: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._draining, self._linger, self._beside, self._announce = draining, linger, beside, announce
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._beside is not None:
            await self._beside.start()
        turn = self.config.http_protocol_class.turn  # type: ignore[union-attr]
        try:
            for listener in sockets or []:
                _listen(listener)
        except OutputError:
            if self._beside is not None:
                await self._beside.stop(0)
            raise
        if turn is None:
            await super().startup(sockets)
        else:
            await self.lifespan.startup()
            self.servers = []
            self._acceptors = [Acceptor(listener, turn, self._connect) for listener in sockets or []]
            self.started = True
        self._announce()

    async def _connect(self, accepted: socket.socket) -> None:
        kind: Any = self.config.http_protocol_class

        def protocol() -> Any:
            return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        await self._loop.connect_accepted_socket(protocol, accepted, ssl=self.config.ssl)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            acceptor.stop()
        grace = 0 if self.force_exit else self.config.timeout_graceful_shutdown or 0
        beside = [] if self._beside is None else [self._beside.stop(grace)]
        await asyncio.gather(super().shutdown(sockets), *beside)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if sig == signal.SIGTERM and not self._draining.is_set() and hasattr(self, "_loop"):
            # Whoever asks whether the server is ready hears no for a moment, and sends nothing more.
            self._draining.set()
            self._loop.call_soon_threadsafe(self._loop.call_later, self._linger, self._stop)
            return
        self._draining.set()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # a server that was asked to stop has done what it was asked

    def _stop(self) -> None:
        self.should_exit = True


def bound_socket(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that is bound, and does not listen yet.

    Args:
        host: An address or a name.
        port: 0 for any free one.
        option: What sets the port, for the message.

    Raises:
        OutputError: The address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol said, or else asyncio leaves Nagle's algorithm on: an answer then takes 40 ms more.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise _taken(f"{host}:{port}", error, option) from error
    return listener


def _listen(listener: socket.socket) -> None:
    """Two sockets may be bound to one port, as long as none of them listens. Raises `OutputError`."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _taken(f"{host}:{port}", error) from error


def _taken(address: str, error: Exception, option: str = "--port") -> OutputError:
    return OutputError(
        f"{address}: cannot be listened on ({getattr(error, 'strerror', None) or error}): stop what uses it, or give "
        f"another --host or {option}"
    )


def serve(
    app: Any,
    listener: socket.socket,
    *,
    tls: tuple[str, str] | None = None,
    draining: threading.Event | None = None,
    linger: float = 0.5,
    grace: int = 30,
    beside: Beside | None = None,
    turn: Turn | None = None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Answer until SIGTERM or Ctrl-C; requests in flight are answered first.

    Args:
        app: An ASGI application.
        listener: From `bound_socket`.
        tls: Files of the certificate and its key, in PEM.
        draining: Set when the server has been asked to stop.
        linger: Seconds from SIGTERM on in which it still listens, while it says that it is not ready.
        grace: Seconds for the requests in flight.
        beside: A server of another protocol, which starts and stops with this one.
        turn: Where other processes listen on the same socket, this one's place among them.
        started: Called when connections are taken.

    Raises:
        OutputError: The certificate or its key cannot be used, or an address: this one's or that of `beside`.
    """
    cert, key = tls or (None, None)
    config = uvicorn.Config(
        app,
        http=LimitedProtocol if turn is None else type("SharingProtocol", (LimitedProtocol,), {"turn": turn}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=cert,
        ssl_keyfile=key,
        timeout_graceful_shutdown=grace,
        backlog=BACKLOG,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise OutputError(
            f"{cert}, {key}: are no certificate and its key in PEM ({error.strerror or error})"
        ) from error
    _Server(config, draining or threading.Event(), linger, beside, started).run([listener])
