"""What Triton adds to an explanation: the real Triton of nvidia-pytriton, with its Python backend, in every layout.

    OMP_NUM_THREADS=1 python benchmarks/triton_layouts.py model.cam.onnx photo.jpg --venv VENV

    OMP_NUM_THREADS=1 python benchmarks/triton_layouts.py model.cam.onnx photo.jpg --venv VENV --backends BACKENDS

VENV has nvidia-pytriton, numpy 1, ONNX Runtime and cfcam's dependencies (docs/triton.md). Requests and calls of
`Explainer.explain` in this process take turns, in rounds; CPU is that of Triton and its stubs. A fused file is served
as `plain` too, and compared with a run of its engine. BACKENDS has an ONNX Runtime backend, which then runs the file
(examples/triton/onnxruntime_backend.sh builds one). Needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as client
from cfcam.export.triton.config import Layout, TritonPlan
from cfcam.export.triton.repository import write_repository
from cfcam.runtime import Explainer
from served import cpu_ms_of
from tritonclient.utils import np_to_triton_dtype


@contextmanager
def triton(venv: str, repository: Path, backends: Path, more: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Triton, until the end of the block: the process, and where it answers."""
    site = next(Path(venv).glob("lib/python3.*/site-packages"))
    server, version = site / "pytriton" / "tritonserver", site.parent.name.removeprefix("python")
    folder = backends / "python"
    folder.mkdir(parents=True)
    for file in (server / "backends" / "python").glob("*.*"):
        (folder / file.name).symlink_to(file)
    if more:
        (backends / "onnxruntime").symlink_to(Path(more, "onnxruntime").absolute())
    stub = "triton_python_backend_stub"
    (folder / stub).symlink_to(server / "python_backend_stubs" / version / stub)
    base = subprocess.run([f"{venv}/bin/python", "-c", "import sys; print(sys.base_prefix)"], capture_output=True)
    libraries = f"{base.stdout.decode().strip()}/lib:{site / 'nvidia_pytriton.libs'}"
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    process = subprocess.Popen(
        [
            *(str(server / "bin" / "tritonserver"), f"--model-repository={repository}"),
            *(f"--backend-directory={backends}", "--http-address=127.0.0.1", f"--http-port={address.split(':')[1]}"),
            *("--allow-grpc=false", "--allow-metrics=false"),
        ],
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        stdout=(backends / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/v2/health/ready"):
                break
            if process.poll() is not None:
                raise SystemExit((backends / "log").read_text())
            time.sleep(0.3)
        yield process, address
    finally:
        process.terminate()
        process.wait()


def processes(parent: int) -> list[int]:
    """`parent` and everything that it started."""
    threads = Path(f"/proc/{parent}/task").iterdir()
    children = [pid for one in threads for pid in (one / "children").read_text().split()]
    return [parent, *(pid for child in children for pid in processes(int(child)))]


def request(address: str, name: str, arrays: dict[str, np.ndarray], outputs: list[str]) -> Callable[[], object]:
    """A request that can be sent again and again."""
    there = client.InferenceServerClient(address)
    inputs = []
    for key, data in arrays.items():
        inputs.append(client.InferInput(key, list(data.shape), np_to_triton_dtype(data.dtype)))
        inputs[-1].set_data_from_numpy(data)
    asked = [client.InferRequestedOutput(output) for output in outputs]
    return lambda: there.infer(name, inputs, outputs=asked).as_numpy(outputs[0])


def ways(explainer: Explainer, photo: str, address: str) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Per layout a request, and the same work here."""
    spec, tensor = explainer.spec, explainer.prepare(photo).tensor[None]
    top, data = np.full((1, 1), -1, np.int64), np.array([[Path(photo).read_bytes()]], np.object_)
    feed = {spec.input.name: tensor, **({} if spec.fixed_target else {spec.target: top[0]})}
    own = {"map": "map", "class": "class"}
    found: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    for layout in ("one", "bls"):
        asked = request(address, layout, {"image": data, "target": top}, list(own))
        found[layout] = (asked, lambda: explainer.explain(photo))
    asked = request(address, "ensemble", {"tensor": tensor, "target": top}, list(own))
    found["ensemble"] = (asked, lambda: explainer.explain(tensor[0]))
    if spec.fused is not None:
        outputs = [spec.fused.map, spec.chosen]
        asked = request(address, "plain", {spec.input.name: tensor, spec.target: top}, outputs)
        found["plain"] = (asked, lambda: explainer.engine.infer(feed, outputs))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("photo")
    parser.add_argument("--venv", default=os.environ.get("CFCAM_TRITON_VENV", ""), help="with nvidia-pytriton")
    parser.add_argument("--backends", default="", help="with an ONNX Runtime backend, which then runs the file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=40, help="requests of a round")
    asked = parser.parse_args()
    if not asked.venv:
        raise SystemExit("--venv: expected the venv with nvidia-pytriton, which CFCAM_TRITON_VENV may name too")
    explainer = Explainer(asked.model, threads=1)
    layouts: list[Layout] = ["one", "bls", "ensemble", *(["plain"] if explainer.spec.fused is not None else [])]
    backend = "onnxruntime" if asked.backends else "python"
    with tempfile.TemporaryDirectory() as place:
        for layout in layouts:
            plan = TritonPlan(name=layout, layout=layout, backend=backend, threads=1, environment=asked.venv)
            write_repository(asked.model, Path(place, "repository"), plan)
        with triton(asked.venv, Path(place, "repository"), Path(place, "backends"), asked.backends) as (
            process,
            address,
        ):
            for name, (there, here) in ways(explainer, asked.photo, address).items():
                print(name, json.dumps(_compared(process.pid, there, here, asked)))


def _compared(
    pid: int, there: Callable[[], Any], here: Callable[[], Any], asked: argparse.Namespace
) -> dict[str, float]:
    """The least of the rounds, in ms: of a request, of the same work here, and what the one takes more."""
    walls, cpus, own_walls, own_cpus = [], [], [], []
    there()
    here()
    for _ in range(asked.rounds):
        cpu, started = cpu_ms_of(processes(pid)), time.monotonic()
        for _ in range(asked.count):
            there()
        walls.append(1000 * (time.monotonic() - started) / asked.count)
        cpus.append((cpu_ms_of(processes(pid)) - cpu) / asked.count)
        cpu, started = time.process_time(), time.monotonic()
        for _ in range(asked.count):
            here()
        own_walls.append(1000 * (time.monotonic() - started) / asked.count)
        own_cpus.append(1000 * (time.process_time() - cpu) / asked.count)
    return {
        "wall_ms": round(min(walls), 2),
        "direct_wall_ms": round(min(own_walls), 2),
        "more_wall_ms": round(min(walls) - min(own_walls), 2),
        "cpu_ms": round(min(cpus), 2),
        "direct_cpu_ms": round(min(own_cpus), 2),
        "more_cpu_ms": round(min(cpus) - min(own_cpus), 2),
    }


if __name__ == "__main__":
    main()
