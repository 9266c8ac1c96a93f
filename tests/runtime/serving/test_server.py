"""A socket, slow heads, and a stop: real connections."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from cfcam.runtime.errors import OutputError
from cfcam.runtime.serving import server
from cfcam.runtime.serving.server import bound_socket


async def _app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_a_port_in_use_and_a_host_that_is_none_are_refused():
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(OutputError, match="give another --host or --port"):
            bound_socket("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(OutputError, match="cannot be listened on"):
        bound_socket("no.such.host.invalid", 0)


def test_a_port_that_somebody_listens_on_since_it_was_bound_is_refused():
    with bound_socket("127.0.0.1", 0) as ours, bound_socket("127.0.0.1", ours.getsockname()[1]) as theirs:
        theirs.listen()
        with pytest.raises(OutputError, match=r"cannot be listened on .* give another --host or --port"):
            server.serve(_app, ours)


def test_asyncio_sees_that_the_socket_is_tcp():
    with bound_socket("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_files_that_are_no_certificate_are_refused(tmp_path):
    file = tmp_path / "cert.pem"
    file.write_text("text")
    with bound_socket("127.0.0.1", 0) as listener, pytest.raises(OutputError, match="no certificate"):
        server.serve(_app, listener, tls=(str(file), str(file)))


def test_a_slow_head_is_closed_and_the_others_are_answered(monkeypatch):
    """In a thread, where uvicorn installs no signal handlers."""
    monkeypatch.setattr(server.LimitedProtocol, "seconds", 0.2)
    started = []
    real = server._Server.__init__
    monkeypatch.setattr(server._Server, "__init__", lambda self, *args: (started.append(self), real(self, *args))[1])
    listener = bound_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve, args=(_app, listener))
    thread.start()
    while not (started and started[0].started):
        time.sleep(0.01)
    try:
        with socket.create_connection(listener.getsockname(), 10) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
            with socket.create_connection(listener.getsockname(), 10) as quick:
                quick.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert b"200" in quick.recv(1000)
                assert slow.recv(1000) == b""  # closed
    finally:
        started[0].should_exit = True
        thread.join(10)
    assert not thread.is_alive()
