"""``cfcam serve`` as a process, and what it refuses to start with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

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


def test_what_cannot_be_served_is_refused(tiny_path, tmp_path, capsys):
    model = str(tiny_path("logits"))
    assert main(["serve", str(tmp_path / "none.onnx"), "--port", "0"]) == 2
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
