"""``cfcam serve`` as a process, and what it refuses to start with."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cfcam.cli import main
from cfcam.runtime.serving.server import bound_socket
from small_photos import make_photos
from tritonclient.grpc import InferenceServerClient


@contextmanager
def serving(*args):
    """A running server: (process, base address, the last address that it names)."""
    command = [sys.executable, "-m", "cfcam.cli", "serve", *map(str, args), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"https?://[0-9.]+:\d+", line):
                yield process, found[0], line.split(" (")[0].rpartition(" ")[2]
                break
        else:
            pytest.fail("".join(lines))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _status(address, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return None


def test_a_process_answers_and_stops_at_sigterm(tiny_path, tmp_path):
    (photo,) = make_photos(tmp_path, 1)
    (tmp_path / "token").write_text("secret\n")
    with serving(tiny_path("logits"), "--token-file", tmp_path / "token", "--grpc-port", 0) as (
        process,
        base,
        grpc_address,
    ):
        assert _status(base + "/v2/health/ready") == 200
        assert _status(base + "/v1/models") == 401
        request = urllib.request.Request(
            base + "/v1/models/logits:explain",
            photo.read_bytes(),
            {"Content-Type": "image/png", "Accept": "image/jpeg", "Authorization": "Bearer secret"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.read(2) == b"\xff\xd8"
        with InferenceServerClient(grpc_address) as client:
            assert client.is_server_ready()
            assert client.is_model_ready("logits", headers={"authorization": "Bearer secret"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_without_its_extra_grpc_is_refused(tiny_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert main(["serve", str(tiny_path("logits")), "--port", "0", "--grpc-port", "0"]) == 2
    assert "--grpc-port needs grpc: install cfcam[grpc]" in " ".join(capsys.readouterr().err.split())


def test_several_processes_share_the_port_survive_a_kill_reload_and_drain(tiny_path, tmp_path):
    (photo,) = make_photos(tmp_path, 1)
    with serving(tiny_path("logits"), "--workers", "2") as (process, base, _):
        request = urllib.request.Request(
            base + "/v1/models/logits:predict", photo.read_bytes(), {"Content-Type": "image/png"}
        )

        def ask():
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status
            except OSError as error:
                return repr(error)

        def more(count):
            """Waits for so many more answers."""
            before, end = len(answers), time.monotonic() + 20
            while len(answers) < before + count:
                assert time.monotonic() < end
                time.sleep(0.01)

        def line():
            assert process.stderr is not None
            return process.stderr.readline()

        stop, answers = threading.Event(), []

        def load():
            while not stop.is_set():
                answers.append(ask())
                time.sleep(0.01)

        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        with ThreadPoolExecutor(4) as threads:
            loads = [threads.submit(load) for _ in range(4)]
            try:
                more(8)
                process.send_signal(signal.SIGHUP)
                assert [line(), line()] == ["reloaded logits\n"] * 2
                more(8)
                assert set(answers) == {200}
                os.kill(int(children[0]), signal.SIGKILL)
                assert "ended by signal 9; another one takes its place" in line()
                process.send_signal(signal.SIGHUP)
                assert [line(), line()] == ["reloaded logits\n"] * 2  # by the new one, too
            finally:
                stop.set()
            assert all(one.result() is None for one in loads)
        assert len([status for status in answers if status != 200]) <= 4  # what the killed one held
        connections = [http.client.HTTPConnection(base.removeprefix("http://"), timeout=30) for _ in range(16)]
        for connection in connections:
            connection.request("POST", request.selector, photo.read_bytes(), {"Content-Type": "image/png"})
        process.send_signal(signal.SIGTERM)
        assert {connection.getresponse().status for connection in connections} == {200}
        assert process.wait(10) == 0
        assert _status(base + "/v2/health/live") is None


def test_what_cannot_be_served_is_refused(tiny_path, tmp_path, capsys):
    model = str(tiny_path("logits"))
    assert main(["serve", str(tmp_path / "none.onnx"), "--port", "0"]) == 2
    assert main(["serve", str(tmp_path / "none.onnx"), "--port", "0", "--workers", "2"]) == 2
    assert capsys.readouterr().err.count("none.onnx: no such file") == 2
    assert main(["serve", model, model, "--port", "0"]) == 2
    assert "another model is called 'logits'" in capsys.readouterr().err
    assert main(["serve", model, "--port", "0", "--tls-cert", "a.pem"]) == 2
    assert "go together" in capsys.readouterr().err
    (tmp_path / "token").write_text("\n")
    assert main(["serve", model, "--port", "0", "--token-file", str(tmp_path / "token")]) == 2
    assert "holds no token" in capsys.readouterr().err
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        for option in ("--port", "--grpc-port"):
            assert main(["serve", model, "--port", "0", option, str(taken.getsockname()[1])]) == 2
            assert f"give another --host or {option}" in capsys.readouterr().err
