"""What `cfcam serve` costs, and what it survives. Needs Linux.

    OMP_NUM_THREADS=1 python benchmarks/serving.py load model.cam.onnx photo.jpg --seconds 10 --workers 2
    OMP_NUM_THREADS=1 python benchmarks/serving.py connections model.cam.onnx photo.jpg --count 1000
    OMP_NUM_THREADS=1 python benchmarks/serving.py stop model.cam.onnx photo.jpg
    OMP_NUM_THREADS=1 python benchmarks/serving.py soak model.cam.onnx photo.jpg --minutes 10
    OMP_NUM_THREADS=1 python benchmarks/serving.py protocols model.cam.onnx photo.jpg
    OMP_NUM_THREADS=1 python benchmarks/serving.py tls model.cam.onnx photo.jpg
    OMP_NUM_THREADS=1 python benchmarks/serving.py wrk model.cam.onnx photo.jpg --seconds 20 --connections 4

`load` asks over connections that stay open, in rounds, each followed by as many calls of `Explainer.explain` in this
process; CPU is that of all processes of the server. `--pixels 12` enlarges the photo to so many megapixels first.
`connections` opens them all, sends a request on each, and then reads what came. `stop` kills a worker with -9 under
load, reloads at SIGHUP under load, and sends SIGTERM with 16 requests in flight. `soak` says how memory grows.
`protocols` compares gRPC, REST with binary data, and V1, in turns on one server; `tls` a server with TLS and one
without, over connections that stay open and over new ones. `wrk` is the load of that program (`apt-get install wrk`).
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
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cfcam.runtime import Explainer
from PIL import Image
from served import Photo, Server, serving

#: Requests of a round of `protocols` and `tls`.
_ROUND = 40


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


def protocols(server: Server, photo: Photo, asked: argparse.Namespace) -> dict[str, object]:
    """CPU time of the server for a request, by each protocol in turn: the label and the map of one photo."""
    import tritonclient.grpc
    import tritonclient.http

    def by_client(module: Any, address: str) -> Callable[[], object]:
        client = module.InferenceServerClient(address)
        image = module.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([photo.data], np.object_))
        outputs = [module.InferRequestedOutput(name) for name in ("label", "map")]
        return lambda: client.infer("m", [image], outputs=outputs).as_numpy("map")

    connection = server.asked()
    ways = {
        "v2_grpc": by_client(tritonclient.grpc, server.grpc),
        "v2_rest_binary": by_client(tritonclient.http, server.address),
        "v1_explain_raw": lambda: photo.ask(connection),
    }
    return _by_turns({name: (server, way) for name, way in ways.items()}, asked, [connection])


def _by_turns(
    ways: dict[str, tuple[Server, Callable[[], object]]],
    asked: argparse.Namespace,
    kept: list[http.client.HTTPConnection],
) -> dict[str, object]:
    """The least CPU and wall time of a request over rounds of 40, in ms. kept: connections that a round opens anew."""
    cost: dict[str, list[float]] = {name: [] for name in ways}
    walls: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, (server, way) in ways.items():
            for connection in kept:
                connection.close()  # the server would, while others have their turn; it is opened anew
            way()
            cpu, started = server.cpu_ms(), time.monotonic()
            for _ in range(_ROUND):
                way()
            walls[name].append(1000 * (time.monotonic() - started) / _ROUND)
            cost[name].append((server.cpu_ms() - cpu) / _ROUND)
    return {name: {"cpu_ms": round(min(cost[name]), 2), "wall_ms": round(min(walls[name]), 2)} for name in ways}


def tls(plain: Server, photo: Photo, model: str, asked: argparse.Namespace) -> dict[str, object]:
    """What TLS adds to a request, and a handshake to a connection."""
    with tempfile.TemporaryDirectory() as folder:
        cert, key = (str(Path(folder, name)) for name in ("cert.pem", "key.pem"))
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-days", "1", "-subj", "/CN=cfcam", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-out", cert, "-keyout", key),
            ],
            check=True,
            capture_output=True,
        )
        with serving(model, 1, "--tls-cert", cert, "--tls-key", key) as secured:
            secured.tls = ssl.create_default_context(cafile=cert)
            servers = {"plain": plain, "tls": secured}
            kept = {name: server.asked() for name, server in servers.items()}
            ways: dict[str, tuple[Server, Callable[[], object]]] = {}
            for name, server in servers.items():
                ways[f"{name}_kept_open"] = (server, lambda c=kept[name]: photo.ask(c))
                ways[f"{name}_new_each_time"] = (server, lambda s=server: _asked_once(s, photo))
            return _by_turns(ways, asked, list(kept.values()))


def _asked_once(server: Server, photo: Photo) -> None:
    connection = server.asked()
    photo.ask(connection)
    connection.close()


def wrk(server: Server, photo: Photo, asked: argparse.Namespace) -> dict[str, object]:
    """The load of wrk: it counts answers by their status and times, the server's CPU time is counted here."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not there: apt-get install wrk, or take `load`, which asks from this process")
    with tempfile.TemporaryDirectory() as folder:
        script, body = Path(folder, "post.lua"), Path(folder, "photo.jpg")
        body.write_bytes(photo.data)
        script.write_text(
            f'local file = io.open("{body}", "rb")\nwrk.body = file:read("*a")\nfile:close()\n'
            'wrk.method = "POST"\nwrk.headers["Content-Type"] = "image/jpeg"\n'
        )
        photo.ask(server.asked())
        cpu = server.cpu_ms()
        command = ["wrk", "-t1", f"-c{asked.connections}", f"-d{asked.seconds:g}s", "--timeout", "60s", "--latency"]
        done = subprocess.run(
            [*command, "-s", str(script), f"http://{server.address}{photo.path}"],
            check=True,
            capture_output=True,
            text=True,
        )
    cpu = server.cpu_ms() - cpu
    said = dict(re.findall(r"^\s*(50%|99%|Requests/sec:)\s+(\S+)", done.stdout, re.MULTILINE))
    count = re.search(r"(\d+) requests in", done.stdout)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    requests = int(count[1]) if count else 0
    return {
        "requests": requests,
        "per_second": said.get("Requests/sec:"),
        "cpu_ms": round(cpu / max(1, requests), 1),
        "wall_p50": said.get("50%"),
        "wall_p99": said.get("99%"),
        "not_answered_with_2xx": int(wrong[1]) if wrong else 0,
        "resident_mib": server.resident_mib(),
    }


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
    end = server.resident_mib()
    return {
        "requests": count,
        "statuses": dict(statuses),
        "resident_mib": {"after_200": start, "end": end},
        "growth_mib": None if start is None else [round(b - a, 1) for a, b in zip(start, end, strict=True)],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "connections", "stop", "soak", "protocols", "tls", "wrk"])
    parser.add_argument("model")
    parser.add_argument("photo")
    parser.add_argument("--workers", type=int, default=None, help="1; 2 for stop")
    parser.add_argument("--decode", default="exact")
    parser.add_argument("--pixels", type=float, help="megapixels to which the photo is enlarged")
    parser.add_argument("--seconds", type=float, default=10, help="of load and wrk")
    parser.add_argument("--rounds", type=int, default=5, help="of load, protocols and tls")
    parser.add_argument("--connections", type=int, default=1, help="that ask at once, for load and wrk")
    parser.add_argument("--count", type=int, default=1000, help="of connections")
    parser.add_argument("--bursts", type=int, default=4, help="of connections")
    parser.add_argument("--minutes", type=float, default=10, help="of soak")
    asked = parser.parse_args()
    photo = Photo(asked.photo, asked.pixels)
    workers = asked.workers or (2 if asked.what == "stop" else 1)
    grpc = ("--grpc-port", "0") if asked.what == "protocols" else ()
    with serving(asked.model, workers, "--decode", asked.decode, *grpc) as server:
        if asked.what == "load":
            found = load(server, photo, asked.model, asked)
        elif asked.what == "connections":
            found = connections(server, photo, asked.count, asked.bursts)
        elif asked.what == "stop":
            found = stop(server, photo)
        elif asked.what == "protocols":
            found = protocols(server, photo, asked)
        elif asked.what == "tls":
            found = tls(server, photo, asked.model, asked)
        elif asked.what == "wrk":
            found = wrk(server, photo, asked)
        else:
            found = soak(server, photo, asked.minutes)
    for name, value in found.items():
        print(f"{name:14} {value}")


if __name__ == "__main__":
    main()
