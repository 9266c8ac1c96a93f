"""A running `cfcam serve`, and a photo to ask it with: what benchmarks of the server share. Needs Linux."""

from __future__ import annotations

import http.client
import io
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

__all__ = ["Photo", "Server", "cpu_ms_of", "serving"]

_TICK = 1000 / os.sysconf("SC_CLK_TCK")


def cpu_ms_of(pids: list[int]) -> float:
    """CPU time of processes so far, in ms (in steps of 10)."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) * _TICK


class Server:
    """A running server. address, grpc: host and port. pids: of the processes that answer. tls: to connect with."""

    def __init__(self, process: subprocess.Popen[str], address: str, workers: int, grpc: str = "") -> None:
        self.process, self.address, self.grpc, self._workers = process, address, grpc, workers
        self.tls: ssl.SSLContext | None = None

    @property
    def pids(self) -> list[int]:
        """Of the processes that answer."""
        if self._workers == 1:
            return [self.process.pid]
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def cpu_ms(self) -> float:
        """CPU time of all of them so far, in ms (in steps of 10)."""
        return cpu_ms_of(self.pids)

    def resident_mib(self) -> list[float]:
        """Of each, the memory that it has alone or shares, in MiB."""
        return [
            round(int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024, 1)
            for pid in self.pids
        ]

    def asked(self) -> http.client.HTTPConnection:
        """A new connection."""
        if self.tls is not None:
            return http.client.HTTPSConnection(self.address, timeout=120, context=self.tls)
        return http.client.HTTPConnection(self.address, timeout=120)


@contextmanager
def serving(model: str, workers: int, *options: str) -> Iterator[Server]:
    """A server, until the end of the block."""
    command = [
        sys.executable,
        "-m",
        "cfcam.cli",
        "serve",
        f"m={model}",
        "--port",
        "0",
        "--workers",
        str(workers),
        *options,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"https?://([0-9.]+:\d+)", line):
                break
            print(line, end="", file=sys.stderr)
        else:
            raise SystemExit("the server did not start")
        threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True).start()
        grpc = re.search(r"gRPC, at ([0-9.]+:\d+)", line)
        yield Server(process, found[1], workers, grpc[1] if grpc else "")
    finally:
        process.terminate()
        process.wait()


def _pass_on(lines: io.TextIOBase) -> None:
    for line in lines:
        print(f"  server: {line}", end="", file=sys.stderr)


class Photo:
    """What is asked with. data: a JPEG."""

    path = "/v1/models/m:explain"

    def __init__(self, path: str, pixels: float | None = None) -> None:
        self.data = Path(path).read_bytes()
        if pixels is not None:
            with Image.open(path) as image:
                scale = (pixels * 1e6 / (image.width * image.height)) ** 0.5
                image = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
            data = io.BytesIO()
            image.save(data, "JPEG", quality=90)
            self.data = data.getvalue()

    def send(self, connection: http.client.HTTPConnection) -> None:
        connection.request("POST", self.path, self.data, {"Content-Type": "image/jpeg"})

    def ask(self, connection: http.client.HTTPConnection) -> int:
        """The status of an answer that was read."""
        self.send(connection)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status
