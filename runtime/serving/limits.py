"""What a request may cost before any work is done: who may ask, how many wait, and how long a body may be."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..errors import CfcamError

__all__ = ["Admission", "Place", "Refusal", "check_access", "check_token", "inflated", "read_body"]

#: A body has this many seconds, and one more for every so many bytes that have arrived.
_SECONDS = 5.0
_BYTES_PER_SECOND = 100_000


class Refusal(CfcamError):
    """A request that is answered by an error. status: of HTTP. headers: that go with it."""

    #: How it is counted, where the status does not say it.
    outcome: str | None = None

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class Place:
    """What an admitted request holds."""

    #: The work that a thread does for the request; it may go on when the request has been answered.
    work: Future[Any] | None = None


class Admission:
    """Counts the requests that are read, wait or run in this process.

    Args:
        most: Of them at a time.
        changed: Is told how many there are now.
    """

    def __init__(self, most: int, changed: Callable[[int], None] = lambda count: None) -> None:
        self._most, self._changed = most, changed
        self._count = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many hold a place now."""
        return self._count

    @contextmanager
    def admitted(self) -> Iterator[Place]:
        """A block for one request, whose place is free again when the block and the work named in it are done.

        Raises:
            Refusal: 503, there are too many.
        """
        with self._lock:
            if self._count >= self._most:
                raise Refusal(503, "the server is busy: try again in a second", {"Retry-After": "1"})
            self._count += 1
            self._changed(self._count)
        place = Place()
        try:
            yield place
        finally:
            if place.work is None:
                self._leave()
            else:
                place.work.add_done_callback(self._leave)

    def _leave(self, _: Any = None) -> None:
        with self._lock:
            self._count -= 1
            self._changed(self._count)


def check_access(headers: Mapping[str, str], token: str | None, hosts: tuple[str, ...], *, public: bool) -> None:
    """Refuse what another web page sends, by its names, and what lacks the token.

    A page elsewhere can reach a loopback address under a name of its own (DNS rebinding): so a host is an IP address,
    ``localhost``, or one of `hosts`.

    Args:
        headers: Of the request, by lower-case names.
        token: The bearer token; None for none.
        hosts: Further names that the server may be called by; ``*`` for any.
        public: No token is needed for this path.

    Raises:
        Refusal: 401 or 403.
    """
    host = headers.get("host", "")
    if not _is_known(host, hosts):
        raise Refusal(403, "this server is not called by that host name: start it with --allow-host NAME")
    origin = headers.get("origin")
    if origin is not None and _authority(origin) != host.lower():
        raise Refusal(403, "web pages of other origins may not use this server")
    if not public:
        check_token(headers, token)


def check_token(headers: Mapping[str, str], token: str | None) -> None:
    """Refuse what lacks the bearer token.

    Args:
        headers: Of the request, by lower-case names.
        token: The bearer token; None for none.

    Raises:
        Refusal: 401.
    """
    if token is None:
        return
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), token.encode()):
        raise Refusal(401, "send the server's token: 'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"})


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_known(host: str, hosts: tuple[str, ...]) -> bool:
    if "*" in hosts:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in (known.lower() for known in hosts):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def read_body(
    headers: Mapping[str, str], receive: Callable[[], Awaitable[Any]], most: int, seconds: float = _SECONDS
) -> bytes:
    """The body of a request, sent at once or in chunks.

    Args:
        headers: Of the request, by lower-case names.
        receive: As in ASGI.
        most: Bytes of the longest body.
        seconds: That it may take, and one more for every 100 kB.

    Raises:
        Refusal: 408 where it comes too slowly, 413 where it is too long.
    """
    too_long = Refusal(413, f"the body is longer than {most} bytes: send less, or start the server with --max-body")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise too_long
    clock = asyncio.get_running_loop().time
    started, parts, size, more = clock(), [], 0, True
    while more:
        left = started + seconds + size / _BYTES_PER_SECOND - clock()
        try:
            message = await asyncio.wait_for(receive(), max(left, 0.001))
        except asyncio.TimeoutError:
            raise Refusal(408, "the body came too slowly: send it again", {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the connection was closed before the body was whole")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise too_long
        more = message.get("more_body", False)
    return b"".join(parts)


def inflated(body: bytes, encoding: str, most: int) -> bytes:
    """A body as it was before it was compressed.

    Args:
        body: As it came.
        encoding: ``gzip``, ``deflate``, or nothing.
        most: Bytes of the longest result.

    Raises:
        Refusal: 400, 413 or 415.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise Refusal(415, "Content-Encoding: expected gzip, deflate or none")
    reader = zlib.decompressobj(wbits=47)
    try:
        data = reader.decompress(body, most + 1)
    except zlib.error as error:
        raise Refusal(400, f"the body is not valid {encoding}") from error
    if len(data) > most:
        raise Refusal(413, f"the body is longer than {most} bytes when it is decompressed")
    if not reader.eof or reader.unused_data:
        raise Refusal(400, f"the body is not valid {encoding}: it is truncated, or goes on behind its end")
    return data
