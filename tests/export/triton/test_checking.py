"""``--check`` against the Triton that nvidia-pytriton carries, and against what is no Triton.

The real one is used where CFCAM_TRITON_VENV names a venv with nvidia-pytriton, numpy 1, ONNX Runtime and cfcam's
dependencies, of a Python that pytriton has a stub for. Where CFCAM_TRITON_BACKENDS names a folder with an ONNX Runtime
backend too (examples/triton/onnxruntime_backend.sh builds one), that runs the files.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.triton import checking
from cfcam.export.triton.checking import check_server
from cfcam.export.triton.config import TritonPlan
from cfcam.export.triton.repository import write_repository
from cfcam.runtime.explainer import Explainer
from cfcam.runtime.triton_model import answer
from PIL import Image

pytest.importorskip("onnx", reason="repositories are written with onnx")
pytest.importorskip("tritonclient.grpc", reason="needs tritonclient[grpc]")

_VENV = os.environ.get("CFCAM_TRITON_VENV", "")
_BACKENDS = os.environ.get("CFCAM_TRITON_BACKENDS", "")
_SERVED = ("logits", "fixed-batch")
_LAYOUTS = ("plain", "one", "bls", "ensemble")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def triton(tiny_path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not _VENV:
        pytest.skip("CFCAM_TRITON_VENV names no venv with nvidia-pytriton")
    folder = tmp_path_factory.mktemp("triton")
    site = next(Path(_VENV).glob("lib/python3.*/site-packages"))
    server = site / "pytriton" / "tritonserver"
    version = site.parent.name.removeprefix("python")
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for file in (server / "backends" / "python").glob("*.*"):
        (backend / file.name).symlink_to(file)
    (backend / "triton_python_backend_stub").symlink_to(
        server / "python_backend_stubs" / version / "triton_python_backend_stub"
    )
    if _BACKENDS:
        (folder / "backends" / "onnxruntime").symlink_to(Path(_BACKENDS, "onnxruntime").absolute())
    runs: Any = {"backend": "onnxruntime" if _BACKENDS else "python", "threads": 1, "environment": _VENV}
    for name in _SERVED:
        for layout in _LAYOUTS:
            plan = TritonPlan(name=f"{name}_{layout}", layout=layout, **runs)  # type: ignore[arg-type]
            write_repository(tiny_path(name), folder / "repository", plan)
    http, grpc = free_port(), free_port()
    base = subprocess.run([f"{_VENV}/bin/python", "-c", "import sys; print(sys.base_prefix)"], capture_output=True)
    paths = [f"{base.stdout.decode().strip()}/lib", str(site / "nvidia_pytriton.libs")]
    process = subprocess.Popen(
        [
            str(server / "bin" / "tritonserver"),
            f"--model-repository={folder / 'repository'}",
            f"--backend-directory={folder / 'backends'}",
            *("--http-address=127.0.0.1", f"--http-port={http}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={grpc}"),
            "--allow-metrics=false",
        ],
        env={**os.environ, "LD_LIBRARY_PATH": ":".join(paths), "OMP_NUM_THREADS": "1"},
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + 120
        while not is_ready(http):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield SimpleNamespace(http=f"http://127.0.0.1:{http}", grpc=f"grpc://127.0.0.1:{grpc}", process=process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5) as found:
            return found.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("photo") / "x.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["http", "grpc"])
@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize("name", _SERVED)
def test_a_real_triton_answers_the_same_bits(
    name: str, layout: str, transport: str, triton: Any, photo: str, tiny_path
) -> None:
    if name == "fixed-batch" and layout == "ensemble":
        pytest.skip("an ensemble of a file with a fixed batch takes full batches alone; the check sends one image")
    rows = check_server(tiny_path(name), getattr(triton, transport), f"{name}_{layout}", [photo], threads=1)
    assert len(rows) == (4 if layout in ("plain", "ensemble") else 6)
    assert [row for row in rows if not row.same] == []


@pytest.mark.slow
def test_a_real_triton_survives_bad_bytes(triton: Any, photo: str, tiny_path) -> None:
    with checking._Client(triton.http, "logits_one", 30) as client:
        for data in (b"\0\xff", b"text", b"", Path(photo).read_bytes()[:900]):
            said = client.ask(photo_of(data), ["map"])
            assert isinstance(said, str)
            assert "image" in said
        assert isinstance(client.ask(photo_of(Path(photo).read_bytes()), ["map"]), dict)


def photo_of(data: bytes) -> dict[str, np.ndarray]:
    return {"image": np.array([[data]], np.object_), "target": np.array([[-1]], np.int64)}


class Answers:
    """In place of the client: `Explainer`'s own answers, changed by `change`."""

    def __init__(self, path: Path, change: Any) -> None:
        self._explainer, self._change = Explainer(path), change

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self._explainer.close()

    def describe(self) -> tuple[list[str], list[str]]:
        return ["tensor", "target"], ["map", "class", "label", "overlay"]

    def ask(self, feed: dict[str, np.ndarray], outputs: list[str]) -> Any:
        assert list(feed) == ["tensor", "target"]
        target = int(feed["target"][0, 0])
        return self._change(answer([self._explainer.explain(feed["tensor"][0], target)], outputs))


def one_bit(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found["map"][0, 0, 0] = np.nextafter(found["map"][0, 0, 0], np.float32(2))
    return found


@pytest.mark.parametrize(
    ("change", "differing", "error"),
    [
        (lambda found: found, (), None),
        (one_bit, ("map",), None),
        (lambda found: {**found, "label": np.array([[b"other"]], np.object_)}, ("label",), None),
        (lambda found: {**found, "class": found["class"][:, 0]}, ("class",), None),
        (lambda _: "out of memory", (), "out of memory"),
    ],
)
def test_one_bit_is_seen(
    change: Any, differing: tuple[str, ...], error: str | None, tiny_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_path("logits")
    monkeypatch.setattr(checking, "_Client", lambda *_: Answers(path, change))
    rows = check_server(path, "http://nowhere", "m")
    assert [(row.source, row.sent, row.target) for row in rows] == [("noise", "tensor", -1), ("noise", "tensor", 5)]
    assert all(row.differing == differing and row.error == error for row in rows)
    assert all(row.same is (not differing and error is None) for row in rows)


def test_a_tolerance_is_for_numbers_alone(tiny_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_path("logits")
    for change, largest, close in (
        (one_bit, 0.0, True),
        (lambda found: {**found, "map": found["map"] + 0.01}, 0.01, False),
        (lambda found: {**found, "class": found["class"] + 1}, float("inf"), False),
    ):
        monkeypatch.setattr(checking, "_Client", lambda *_, change=change: Answers(path, change))
        rows = check_server(path, "http://nowhere", "m", tolerance=1e-5)
        assert all(not row.same and row.close is close for row in rows)
        assert all(row.largest == pytest.approx(largest, rel=0.2, abs=2e-7) for row in rows)
    with pytest.raises(ExportError, match="expected a number from 0, got nan"):
        check_server(path, "http://nowhere", "m", tolerance=float("nan"))


class PlainAnswers(Answers):
    """The file's own outputs, as Triton gives them."""

    def describe(self) -> tuple[list[str], list[str]]:
        info = self._explainer.engine.describe()
        return list(info.inputs), list(info.outputs)

    def ask(self, feed: dict[str, np.ndarray], outputs: list[str]) -> Any:
        flat = feed["cam_target"].reshape(-1)
        found = self._explainer.engine.infer({"image": feed["image"], "cam_target": flat}, outputs)
        if feed["cam_target"].ndim == 2:
            found = {name: value[:, None] if value.ndim == 1 else value for name, value in found.items()}
        return self._change(found)


@pytest.mark.parametrize(("name", "batch"), [("logits", 1), ("fixed-batch", 2)])
def test_a_plain_file_is_asked_for_its_own_outputs(
    name: str, batch: int, tiny_path, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, shapes = tiny_path(name), []

    def seen(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shapes.append(found["cam_class"].shape)
        return found

    monkeypatch.setattr(checking, "_Client", lambda *_: PlainAnswers(path, seen))
    rows = check_server(path, "http://nowhere", "m", [photo])
    assert [(row.source, row.target, row.same) for row in rows] == [
        (source, target, True) for source in ("noise", photo) for target in (-1, 5)
    ]
    assert set(shapes) == {(1, 1) if batch == 1 else (2,)}
    spoilt = lambda found: {**found, "cam_gradients": found["cam_gradients"] + 1}  # noqa: E731
    monkeypatch.setattr(checking, "_Client", lambda *_: PlainAnswers(path, spoilt))
    assert {row.differing for row in check_server(path, "http://nowhere", "m")} == {("cam_gradients",)}


def test_a_model_of_another_file_is_refused(tiny_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fused(PlainAnswers):
        def describe(self) -> tuple[list[str], list[str]]:
            return ["image", "cam_target"], ["scores", "cam_map", "cam_class"]

    monkeypatch.setattr(checking, "_Client", lambda *_: Fused(tiny_path("logits"), None))
    with pytest.raises(
        ExportError, match=r"has no output 'cam_activations', 'cam_gradients': it was written from another"
    ):
        check_server(tiny_path("logits"), "http://nowhere", "m")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there_is_one_sentence(scheme: str, tiny_path) -> None:
    pytest.importorskip("gevent", reason="needs tritonclient[http]")
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with pytest.raises(ExportError, match="does not answer as a Triton with the model 'm'"):
        check_server(tiny_path("logits"), url, "m", timeout=5)


def test_an_address_of_another_kind(tiny_path) -> None:
    with pytest.raises(ExportError, match="expected http://HOST:PORT or grpc"):
        check_server(tiny_path("logits"), "ftp://x", "m")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_zz_readiness_stays_when_a_stub_is_killed(triton: Any) -> None:
    """What the README warns of; last, since it takes a model away."""
    stubs = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_stub(entry, triton.process.pid)
    ]
    assert stubs
    os.kill(stubs[0], signal.SIGKILL)
    time.sleep(1)
    assert is_ready(int(triton.http.rpartition(":")[2]))


def _is_stub(entry: Path, parent: int) -> bool:
    try:
        command = (entry / "cmdline").read_bytes().split(b"\0")
        started_by = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return b"triton_python_backend_stub" in command[0] and b"fixed-batch_one" in b" ".join(command) and bool(started_by)
