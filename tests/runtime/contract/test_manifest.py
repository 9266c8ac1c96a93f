"""`Manifest`: there and back, what is kept, and what loading refuses."""

from __future__ import annotations

import hashlib
import json
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cfcam.runtime.contract.manifest import (
    BackendRecord,
    CalibrationRecord,
    FileRecord,
    Manifest,
    ProductRecord,
    Target,
)
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.engines.options import EngineOptions
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.engines.tensorrt.cuda import Gpu
from cfcam.runtime.errors import CfcamError, EngineError, ManifestError, OutputError
from tiny_model import VARIANTS

_GPU = Gpu("NVIDIA RTX A2000", "8.6")


@pytest.fixture
def product(tmp_path: Path) -> Path:
    path = tmp_path / "dogs.engine"
    path.write_bytes(b"plan" * 700_000)  # more than one block of the streamed hash
    return path


def manifest_of(path: Path, **changes: Any) -> Manifest:
    made = Manifest(
        product=ProductRecord.of(path),
        source=FileRecord(file="dogs.cam.onnx", sha256="1" * 64),
        graph=FileRecord(file="dogs.fp16.onnx", sha256="2" * 64),
        backend=BackendRecord(name="tensorrt_rtx", version="1.7.1"),
        target=Target(compute_capability="8.6"),
        precision="float16",
        config={"backend": "tensorrt_rtx", "shapes": [1, 4, 8]},
        engine=EngineOptions(threads=2, session={"a": True}).to_dict(),
        spec=VARIANTS["logits"].spec.to_dict(),
        calibration=CalibrationRecord(sha256="3" * 64, count=100, calibrator="entropy"),
        gate={"passed": True, "spearman": 0.99},
        tools={"cfcam": "0.1.0"},
        created="2026-11-24T12:00:00Z",
    )
    return replace(made, **changes)


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has TensorRT for RTX 1.7.1."""
    module = types.SimpleNamespace(__version__="1.7.1")
    monkeypatch.setattr(packages, "_in_use", packages.Package("tensorrt_rtx", module, None))


def test_there_and_back(product: Path) -> None:
    manifest = manifest_of(product)
    place = manifest.write(product)
    assert place == product.with_name("dogs.engine.manifest.json")
    assert Manifest.read(product) == manifest
    assert [p.name for p in product.parent.iterdir() if p not in (product, place)] == []
    assert manifest.product.sha256 == hashlib.sha256(product.read_bytes()).hexdigest()
    assert manifest.cam_spec == VARIANTS["logits"].spec
    assert (manifest.engine_options.threads, manifest.engine_options.session) == (2, {"a": "1"})
    assert (manifest.is_engine, manifest.passed) == (True, True)
    bare = manifest_of(product, graph=None, target=None, calibration=None, gate=None, engine={})
    assert Manifest.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare
    assert (bare.passed, bare.engine_options) == (None, EngineOptions())


def test_none_is_no_error(product: Path) -> None:
    assert Manifest.read(product) is None


def test_unknown_keys_and_newer_minors_are_kept(product: Path) -> None:
    data = manifest_of(product).to_dict()
    data |= {"schema": "1.9", "signature": "x"}
    data["product"]["compression"] = "none"
    assert Manifest.from_dict(data).to_dict() == data


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema", "2.0", r"manifest schema 2\.0 is newer than this cfcam reads \(1\.1\): upgrade cfcam"),
        ("schema", None, "expected 'MAJOR.MINOR'"),
        ("product", {"file": "x", "sha256": "y"}, r"manifest product\.bytes: missing"),
        ("backend", {"name": "tflite", "version": "1"}, r"backend\.name: expected one of 'onnxruntime', 'tensorrt'"),
        ("spec", {"schema": "1.0"}, "CamSpec layer: missing"),
        ("engine", {"threds": 2}, "unknown key 'threds': did you mean 'threads'"),
        ("gate", {"score": 1}, r"gate\.passed: expected true or false"),
        ("gate", {"passed": False, "verdict": "maybe"}, r"gate\.verdict: expected one of passed, failed, undecided"),
        ("gate", {"passed": True, "verdict": "undecided"}, "passed and verdict contradict each other"),
        ("created", KeyError, "manifest created: missing"),
    ],
)
def test_refused(product: Path, key: str, value: Any, words: str) -> None:
    data = manifest_of(product).to_dict()
    if value is KeyError:
        del data[key]
    else:
        data[key] = value
    Manifest.place(product).write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=words) as caught:
        Manifest.read(product)
    assert str(caught.value).startswith(str(Manifest.place(product)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"schema": "1.0", "prod', b"\xff\xfe", b"[]"])
def test_what_is_no_manifest(product: Path, content: bytes) -> None:
    Manifest.place(product).write_bytes(content)
    with pytest.raises(ManifestError, match=r"dogs\.engine\.manifest\.json: "):
        Manifest.read(product)


@pytest.mark.usefixtures("version")
def test_what_was_built_for_this_machine_passes(product: Path) -> None:
    manifest_of(product).check(product, gpu=_GPU)
    manifest_of(product, gate={"passed": False}).check(product, gpu=_GPU)
    manifest_of(product, target=Target(gpu=_GPU.name)).check(product, gpu=_GPU)
    manifest_of(product, target=None).check(product)  # asks for no GPU


@pytest.mark.usefixtures("version")
def test_a_changed_file_is_refused(product: Path) -> None:
    manifest = manifest_of(product)
    whole = product.read_bytes()
    product.write_bytes(whole[:-1] + b"!")
    with pytest.raises(
        ManifestError, match=r"dogs\.engine: is not the file that dogs\.engine\.manifest\.json describes"
    ):
        manifest.check(product, gpu=_GPU)
    product.write_bytes(whole[:1000])
    with pytest.raises(ManifestError, match=r"\(1000 bytes\): copy both again, or build it again"):
        manifest.check(product, machine=False)
    product.unlink()
    with pytest.raises(ManifestError, match="is missing beside its manifest"):
        manifest.check(product)


@pytest.mark.usefixtures("version")
def test_another_machine_is_refused(product: Path) -> None:
    other = manifest_of(product, backend=BackendRecord(name="tensorrt_rtx", version="1.4.0"))
    with pytest.raises(
        ManifestError, match=r"built with tensorrt_rtx 1\.4\.0 .* this machine has 1\.7\.1: build it again"
    ):
        other.check(product, gpu=_GPU)
    other.check(product, machine=False)
    with pytest.raises(ManifestError, match=r"for compute capability 8\.6, but the GPU here \(Orin\) has 8\.7"):
        manifest_of(product).check(product, gpu=Gpu("Orin", "8.7"))
    named = manifest_of(product, target=Target(compute_capability="8.6", gpu="GeForce RTX 3090"))
    with pytest.raises(ManifestError, match=r"for 'GeForce RTX 3090', but the GPU here is 'NVIDIA RTX A2000'"):
        named.check(product, gpu=_GPU)


def test_an_onnx_product_runs_with_any_version(product: Path) -> None:
    manifest = manifest_of(product, backend=BackendRecord(name="onnxruntime", version="1.17.0", provider="cpu"))
    manifest.check(product)
    assert not manifest.is_engine


def test_another_provider_does_without_what_was_meant_for_the_manifests(tiny_path: Any) -> None:
    options = EngineOptions(provider="tensorrt", cache="engines", cuda_graph=True, threads=1)
    manifest = manifest_of(
        tiny_path("logits"),
        backend=BackendRecord(name="onnxruntime", version="1.17.0", provider="tensorrt"),
        engine=options.to_dict(),
    )
    with open_engine(tiny_path("logits"), "cpu", manifest=manifest) as engine:
        assert engine.describe().provider == "cpu"
    with pytest.raises(EngineError, match="has no CUDA graphs"):
        open_engine(tiny_path("logits"), "cpu", options=EngineOptions(cuda_graph=True))


def test_it_cannot_be_written_everywhere(product: Path, tmp_path: Path) -> None:
    Manifest.place(product).mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        manifest_of(product).write(product)
    with pytest.raises(CfcamError):
        Manifest.read(product)


def test_a_verdict_has_three_values_and_older_manifests_have_two(tmp_path):
    product = tmp_path / "x.onnx"
    product.write_bytes(b"x")
    for gate, verdict in (
        ({"passed": True}, "passed"),
        ({"passed": False}, "failed"),
        ({"passed": False, "verdict": "undecided"}, "undecided"),
        ({"passed": True, "verdict": "passed"}, "passed"),
        (None, None),
    ):
        manifest = manifest_of(product, gate=gate)
        assert manifest.verdict == verdict
        assert Manifest.from_dict(manifest.to_dict()).verdict == verdict
