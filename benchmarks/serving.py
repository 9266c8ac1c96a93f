"""What `cfcam serve` costs, and what it survives. Needs Linux.

    OMP_NUM_THREADS=1 python benchmarks/serving.py load model.cam.onnx photo.jpg --seconds 10 --workers 2
    OMP_NUM_THREADS=1 python benchmarks/serving.py connections model.cam.onnx photo.jpg --count 1000
    OMP_NUM_THREADS=1 python benchmarks/serving.py stop model.cam.onnx photo.jpg
    OMP_NUM_THREADS=1 python benchmarks/serving.py soak model.cam.onnx photo.jpg --minutes 10

`load` asks over connections that stay open, in rounds, each followed by as many calls of `Explainer.explain` in this
process; CPU is that of all processes of the server. `--pixels 12` enlarges the photo to so many megapixels first.
`connections` opens them all, sends a request on each, and then reads what came. `stop` kills a worker with -9 under
load, reloads at SIGHUP under load, and sends SIGTERM with 16 requests in flight. `soak` says how memory grows.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cfcam.runtime import Explainer
from PIL import Image

_TICK = 1000 / os.sysconf("SC_CLK_TCK")


class Server:
    """A running server. address: host and port. pids: of the processes that answer."""

    def __init__(self, process: subprocess.Popen[str], address: str, workers: int) -> None:
        self.process, self.address, self._workers = process, address, workers

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
        fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split() for pid in self.pids]
        return sum(int(one[11]) + int(one[12]) for one in fields) * _TICK

    def resident_mib(self) -> list[float]:
        """Of each, the memory that it has alone or shares, in MiB."""
        return [
            round(int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024, 1)
            for pid in self.pids
        ]

    def asked(self) -> http.client.HTTPConnection:
        """A new connection."""
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
            if found := re.search(r"http://([0-9.]+:\d+)", line):
                break
            print(line, end="", file=sys.stderr)
        else:
            raise SystemExit("the server did not start")
        threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True).start()
        yield Server(process, found[1], workers)
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


def load(server: Server, photo: Photo, model: str, asked: argparse.Namespace) -> dict[str, object]:
    """Requests per second, and the CPU time of one beside that of the same explanation without a server."""
    explainer = Explainer(model, threads=1)
    connections = [server.asked() for _ in range(asked.connections)]
    statuses: Counter[int] = Counter()

    def one_of(connection: http.client.HTTPConnection, until: float) -> list[float]:
        walls = []
        while time.monotonic() < until:
            started = time.monotonic()
            statuses[photo.ask(connection)] += 1
            walls.append(1000 * (time.monotonic() - started))
        return walls

    cost, direct, walls, rates = [], [], [], []
    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(photo.ask, connections))
        for _ in range(asked.rounds):
            cpu, started = server.cpu_ms(), time.monotonic()
            until = started + asked.seconds / asked.rounds
            taken = [wall for walls in threads.map(one_of, connections, [until] * len(connections)) for wall in walls]
            rates.append(len(taken) / (time.monotonic() - started))
            cost.append((server.cpu_ms() - cpu) / len(taken))
            walls += taken
            for connection in connections:
                connection.close()  # the server would close them while they are idle; they are opened anew
            cpu, count = time.process_time(), min(len(taken), 40)
            for _ in range(count):
                with Image.open(io.BytesIO(photo.data)) as image:
                    json.dumps(explainer.explain(image).to_dict())
            direct.append(1000 * (time.process_time() - cpu) / count)
    percentiles = statistics.quantiles(walls, n=100)
    return {
        "requests": len(walls),
        "per_second": round(max(rates), 1),
        "cpu_ms": round(min(cost), 1),
        "direct_cpu_ms": round(min(direct), 1),
        "wall_ms_p50": round(percentiles[49], 1),
        "wall_ms_p99": round(percentiles[98], 1),
        "statuses": dict(statuses),
        "resident_mib": server.resident_mib(),
    }


def connections(server: Server, photo: Photo, count: int, bursts: int) -> dict[str, object]:
    """What so many connections at once get, several times, and whether the server is as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft < count + 100 else soft, hard))
    for _ in range(10):
        photo.ask(server.asked())
    found: dict[str, object] = {"before": {"resident_mib": server.resident_mib()}}
    for number in range(bursts):
        found[f"burst {number + 1}"] = _burst(server, photo, count)
    return found


def _burst(server: Server, photo: Photo, count: int) -> dict[str, object]:
    host, port = server.address.split(":")
    head = f"POST {photo.path} HTTP/1.1\r\nHost: {server.address}\r\nContent-Type: image/jpeg\r\n"
    data = f"{head}Content-Length: {len(photo.data)}\r\nConnection: close\r\n\r\n".encode() + photo.data
    statuses: Counter[str] = Counter()
    left: dict[socket.socket, bytes] = {}
    started = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            one = socket.create_connection((host, int(port)))
            one.setblocking(False)
            left[one] = data
            selector.register(one, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while left and time.monotonic() < started + 120:
            for key, events in selector.select(1):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                try:
                    if events & selectors.EVENT_WRITE:
                        left[one] = left[one][one.send(left[one]) :]
                        if not left[one]:
                            selector.modify(one, selectors.EVENT_READ)
                    if events & selectors.EVENT_READ:
                        answer = one.recv(65536)
                        statuses[answer[9:12].decode() or "closed"] += 1
                        raise ConnectionError
                except ConnectionError as error:
                    statuses[type(error).__name__] += type(error) is not ConnectionError
                    selector.unregister(one)
                    one.close()
                    del left[one]
    seconds = time.monotonic() - started
    after = [photo.ask(server.asked()) for _ in range(20)]
    return {
        "statuses": {name: number for name, number in statuses.items() if number}
        | ({"none": len(left)} if left else {}),
        "seconds": round(seconds, 1),
        "after": dict(Counter(after)),
        "resident_mib": server.resident_mib(),
    }


def stop(server: Server, photo: Photo) -> dict[str, object]:
    """What a kill, a reload and a stop under load cost."""
    answers: Counter[object] = Counter()
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            connection = server.asked()
            try:
                answers[photo.ask(connection)] += 1
            except OSError as error:
                answers[type(error).__name__] += 1
            connection.close()

    def passed(act: int | None, seconds: float) -> dict[object, int]:
        answers.clear()
        if act is not None:
            os.kill(act, signal.SIGKILL)
        else:
            server.process.send_signal(signal.SIGHUP)
        time.sleep(seconds)
        return dict(answers)

    clients = [threading.Thread(target=keep_asking) for _ in range(4)]
    for client in clients:
        client.start()
    time.sleep(1)
    found: dict[str, object] = {
        "reload": passed(None, 4),
        "kill": passed(server.pids[0], 4),
        "workers": len(server.pids),
    }
    over.set()
    for client in clients:
        client.join()
    waiting = [server.asked() for _ in range(16)]
    for connection in waiting:
        photo.send(connection)
    started = time.monotonic()
    server.process.terminate()
    found["stop"] = dict(Counter(connection.getresponse().status for connection in waiting))
    server.process.wait()
    return found | {"gone_after_s": round(time.monotonic() - started, 2), "exit_code": server.process.returncode}


def soak(server: Server, photo: Photo, minutes: float) -> dict[str, object]:
    """How memory grows between the first 200 requests and the end."""
    connection, statuses, count = server.asked(), Counter(), 0
    start = None
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        statuses[photo.ask(connection)] += 1
        count += 1
        if count == 200:
            start = server.resident_mib()
        if count % 1000 == 0:
            print(f"  {count} requests: {server.resident_mib()} MiB", file=sys.stderr)
    return {
        "requests": count,
        "statuses": dict(statuses),
        "resident_mib": {"after_200": start, "end": server.resident_mib()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "connections", "stop", "soak"])
    parser.add_argument("model")
    parser.add_argument("photo")
    parser.add_argument("--workers", type=int, default=None, help="1; 2 for stop")
    parser.add_argument("--decode", default="exact")
    parser.add_argument("--pixels", type=float, help="megapixels to which the photo is enlarged")
    parser.add_argument("--seconds", type=float, default=10, help="of load")
    parser.add_argument("--rounds", type=int, default=5, help="of load")
    parser.add_argument("--connections", type=int, default=1, help="that ask at once, for load")
    parser.add_argument("--count", type=int, default=1000, help="of connections")
    parser.add_argument("--bursts", type=int, default=4, help="of connections")
    parser.add_argument("--minutes", type=float, default=10, help="of soak")
    asked = parser.parse_args()
    photo = Photo(asked.photo, asked.pixels)
    workers = asked.workers or (2 if asked.what == "stop" else 1)
    with serving(asked.model, workers, "--decode", asked.decode) as server:
        if asked.what == "load":
            found = load(server, photo, asked.model, asked)
        elif asked.what == "connections":
            found = connections(server, photo, asked.count, asked.bursts)
        elif asked.what == "stop":
            found = stop(server, photo)
        else:
            found = soak(server, photo, asked.minutes)
    for name, value in found.items():
        print(f"{name:14} {value}")


if __name__ == "__main__":
    main()
