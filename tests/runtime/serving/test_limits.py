"""Who may ask, how many at a time, and how long and slow a body may be."""

from __future__ import annotations

import asyncio
import gzip
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from cfcam.runtime.serving.limits import Admission, Refusal, check_access, inflated, read_body


def _status(function, *args, **kwargs):
    """The status of the refusal; 200 where there is none."""
    try:
        function(*args, **kwargs)
    except Refusal as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    ("host", "hosts", "status"),
    [
        ("127.0.0.1:8080", (), 200),
        ("[::1]:8080", (), 200),
        ("localhost", (), 200),
        ("evil.example:8080", (), 403),
        ("localhost.evil.example", (), 403),
        ("", (), 403),
        ("[half", (), 403),
        ("cam.example", ("CAM.example",), 200),
        ("evil.example", ("*",), 200),
    ],
)
def test_a_host_name_is_known_or_an_address(host, hosts, status):
    assert _status(check_access, {"host": host}, None, hosts, public=False) == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8080", 200),
        ("http://localhost:9000", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[half", 403),
    ],
)
def test_another_pages_origin_is_refused(origin, status):
    assert _status(check_access, {"host": "localhost:8080", "origin": origin}, None, (), public=False) == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("Bearer secret", 200),
        ("bearer secret", 200),
        ("Bearer other", 401),
        ("Bearer sécret", 401),
        ("Basic secret", 401),
        (None, 401),
    ],
)
def test_the_token(sent, status):
    headers = {"host": "localhost"} | ({} if sent is None else {"authorization": sent})
    assert _status(check_access, headers, "secret", (), public=False) == status
    assert _status(check_access, headers, "secret", (), public=True) == 200


def test_a_place_is_free_when_its_work_is_done_and_not_when_it_is_answered():
    admission, go = Admission(1), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        with admission.admitted() as place:
            place.work = threads.submit(go.wait)
        with pytest.raises(Refusal) as caught, admission.admitted():
            pass
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        go.set()
    with admission.admitted():
        assert admission.count == 1
    assert admission.count == 0


def _read(messages, headers=None, most=10, seconds=5.0):
    async def whole():
        left = list(messages)

        async def receive():
            if not left:
                await asyncio.sleep(60)
            return left.pop(0)

        return await read_body(headers or {}, receive, most, seconds)

    return asyncio.run(whole())


def _part(data, more=False):
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_in_parts():
    assert _read([_part(b"abc", True), _part(b"def")]) == b"abcdef"


@pytest.mark.parametrize(
    ("messages", "headers", "status"),
    [
        ([], {"content-length": "11"}, 413),  # before anything is read
        ([], {"content-length": "-1"}, 413),
        ([_part(b"x" * 6, True), _part(b"x" * 6, True)], {}, 413),  # in chunks of no announced length
        ([_part(b"x", True), {"type": "http.disconnect"}], {}, 400),
        ([_part(b"x", True)], {}, 408),
    ],
)
def test_bodies_that_are_refused(messages, headers, status):
    assert _status(_read, messages, headers, seconds=0.05) == status


def test_compressed_bodies():
    assert inflated(b"as it is", "", 10) == b"as it is"
    assert inflated(gzip.compress(b"a" * 10), "gzip", 10) == b"a" * 10
    assert inflated(zlib.compress(b"a" * 10), " Deflate ", 10) == b"a" * 10
    assert _status(inflated, gzip.compress(b"a" * 11), "gzip", 10) == 413
    assert _status(inflated, gzip.compress(b"a")[:-3], "gzip", 10) == 400
    assert _status(inflated, gzip.compress(b"a") + b"more", "gzip", 10) == 400
    assert _status(inflated, b"text", "gzip", 10) == 400
    assert _status(inflated, b"text", "br", 10) == 415
