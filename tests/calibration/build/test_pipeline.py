"""From an explained file to products, with the real gate and TensorRT's real builder."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from cfcam.calibration.build.config_files import parse_config, read_config
from cfcam.calibration.build.pipeline import build
from cfcam.export import precision
from cfcam.runtime.contract.manifest import Manifest
from cfcam.runtime.contract.modelfile import file_sha256, read_spec
from cfcam.runtime.engines.tensorrt import packages
from cfcam.runtime.errors import EngineError, ImageError, MissingDependencyError, ModelFileError, OutputError
from cfcam.runtime.explainer import Explainer
from onnx import numpy_helper
from small_photos import corrupt_photos, make_photos
from tensorrt_required import require_tensorrt

CPU = parse_config("backend: onnxruntime\nbatch: {max: 4}", "cpu.yaml")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFCAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_photos(tmp_path_factory.mktemp("photos"), 24)


@pytest.fixture
def broken_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A precision pass that reverses the order of the classes: what the gate is there for."""
    real = precision.lower

    def lower(source: Path, output: Path, plan: Any, images: Any = None, **options: Any) -> Any:
        done = real(source, output, plan, images, **options)
        model = onnx.load(output)
        for weight in model.graph.initializer:
            values = numpy_helper.to_array(weight)
            if values.ndim == 2:
                weight.CopyFrom(numpy_helper.from_array(values[::-1].copy(), weight.name))
        onnx.save(model, output)
        return done

    monkeypatch.setattr("cfcam.calibration.build.lowering.lower", lower)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_product_and_its_manifest(tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]) -> None:
    source, out = tiny_path("tail"), tmp_path / "out"
    steps: list[str] = []

    def progress(step: str, done: float | None = None, total: float | None = None) -> None:
        assert done is None or total is None or 0 <= done <= total
        steps.append(step)

    report = build(source, "cpu", CPU, out, photos, progress=progress)
    assert report.passed
    assert listing(out) == ["tail.cpu.onnx", "tail.cpu.onnx.manifest.json", "tail.cpu.tail.onnx"]
    assert {"photos", "precision", "gate"} <= set(steps)
    (product,) = report.products
    manifest = Manifest.read(product)
    assert manifest is not None
    assert manifest.source.sha256 == file_sha256(source)
    assert (manifest.backend.name, manifest.precision) == ("onnxruntime", "float32")
    assert manifest.config["name"] == "cpu"
    assert manifest.config["batch"] == {"min": 1, "opt": 1, "max": 4}
    assert manifest.passed
    assert manifest.gate is not None
    assert manifest.gate["count"] == 24
    assert manifest.gate["ran_on"] == "tail.cpu.onnx on cpu"
    with Explainer(product) as explainer, Explainer(source) as reference:
        found, wanted = (one.explain(photos[0], method="ablationcam") for one in (explainer, reference))
    assert found.map == pytest.approx(wanted.map, abs=1e-5)  # the tail came along
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["passed"] is True


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_guided_file_stays_guided(guided_path: Path, tmp_path: Path, photos: list[Path], precision: str) -> None:
    """Detail and rivals are outputs of the product, the gate compares guided maps, and the manifest says so."""
    config = parse_config(f"backend: onnxruntime\nprecision: {precision}", "f.yaml")
    report = build(guided_path, "mine", config, tmp_path, photos, allow_failing=True)
    (product,) = report.products
    form = {"guided": True, "contrast": 0.3, "detail": "early"}
    manifest = Manifest.read(product)
    assert manifest is not None
    assert manifest.gate is not None
    assert (manifest.form, manifest.gate["form"]) == (form, form)
    assert report.gate is not None
    assert report.gate.places[0].place.grid == (16, 16)
    with Explainer(product) as explainer, Explainer(guided_path) as reference:
        found, wanted = (one.explain(photos[0], 1) for one in (explainer, reference))
    assert (found.detail, found.form) == ("early", wanted.form)
    apart = abs(found.map - wanted.map).max()
    assert 0 < apart < (0.02 if precision == "float16" else 0.3)


def test_a_fused_product(guided_path: Path, tmp_path: Path, photos: list[Path]) -> None:
    """Of a two-stage file: the gate compares its finished maps, and explaining takes no numpy of ours."""
    config = parse_config("backend: onnxruntime\nprecision: float16", "f.yaml")
    report = build(guided_path, "mine", config, tmp_path, photos, allow_failing=True, fused=True)
    (product,) = report.products
    spec, manifest = read_spec(product), Manifest.read(product)
    assert (spec.precision, spec.method.settings["contrast"]) == ("float16", 0.3)
    assert spec.fused is not None
    assert spec.fused.form == "cpu"  # where it runs
    assert manifest is not None
    assert manifest.form == {"guided": True, "contrast": 0.3, "detail": "early"}
    assert report.gate is not None
    assert report.gate.verdict == "undecided"  # by 24 photos
    assert report.gate.places[0].measures["pearson"].worst > 0.999
    with Explainer(product) as explainer, Explainer(guided_path) as reference:
        found, wanted = (one.explain(photos[0], 1) for one in (explainer, reference))
    assert 0 < abs(found.map - wanted.map).max() < 0.02


def test_the_configuration_names_the_method(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]
) -> None:
    config = parse_config("backend: onnx\nmethod: {name: layercam}", "f.yaml")
    (product,) = build(tiny_path("logits"), "mine", config, tmp_path, photos).products
    assert read_spec(product).method.name == "layercam"
    manifest = Manifest.read(product)
    assert manifest is not None
    assert manifest.gate is not None
    assert manifest.gate["method"] == "layercam"


@pytest.mark.usefixtures("broken_pass")
def test_what_fails_is_not_handed_over(tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]) -> None:
    source = tiny_path("logits")
    report = build(source, "cpu", CPU, tmp_path / "out", photos)
    assert report.passed is False
    assert report.products == ()
    assert listing(tmp_path / "out") == ["logits.cpu.failed-gate.html", "logits.cpu.failed-gate.json"]
    assert json.loads((tmp_path / "out" / "logits.cpu.failed-gate.json").read_text())["passed"] is False
    overruled = build(source, "cpu", CPU, tmp_path / "out", photos, allow_failing=True)
    assert listing(tmp_path / "out") == ["logits.cpu.onnx", "logits.cpu.onnx.manifest.json"]  # the old report is gone
    manifest = Manifest.read(overruled.products[0])
    assert manifest is not None
    assert manifest.passed is False
    assert manifest.gate is not None
    assert manifest.gate["failures"]


def test_what_is_undecided_is_not_handed_over(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]
) -> None:
    half = parse_config("backend: onnxruntime\nprecision: float16\n", "f.yaml")
    source, out = tiny_path("logits"), tmp_path / "out"
    report = build(source, "half", half, out, photos)
    assert report.gate is not None
    assert (report.passed, report.gate.verdict, report.products) == (False, "undecided", ())
    assert listing(out) == ["logits.half.undecided-gate.html", "logits.half.undecided-gate.json"]
    document = json.loads((out / "logits.half.undecided-gate.json").read_text())
    assert (document["passed"], document["verdict"]) == (False, "undecided")
    assert document["photos_needed"] > len(report.gate.photos)
    allowed = build(source, "half", half, out, photos, allow_undecided=True)
    assert listing(out) == ["logits.half.onnx", "logits.half.onnx.manifest.json"]  # the report is gone
    manifest = Manifest.read(allowed.products[0])
    assert manifest is not None
    assert (manifest.passed, manifest.verdict) == (False, "undecided")
    # The limits that so few photos can show: then it passes.
    easy = "{last_score: 0.3, last_iou_score: 0.3, top1: 0.7, moved_peaks: 0.3, class_sensitivity: 0.6}"
    decided = parse_config(f"backend: onnxruntime\nprecision: float16\ngate: {{thresholds: {easy}}}", "f.yaml")
    assert build(source, "half", decided, out, photos).passed


@pytest.mark.usefixtures("broken_pass")
def test_what_fails_is_no_less_refused_where_the_undecided_is_allowed(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]
) -> None:
    report = build(tiny_path("logits"), "cpu", CPU, tmp_path, photos, allow_undecided=True)
    assert report.gate is not None
    assert (report.gate.verdict, report.products) == ("failed", ())


def test_engines_are_built_for_every_target(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]
) -> None:
    require_tensorrt()
    config = parse_config("backend: tensorrt_rtx\nbuilder: {compute_capability: [8.6, 12.0]}", "f.yaml")
    for of_onnx_only in ("logits.two.trtexec.sh", "logits.two.onnx.manifest.json"):
        (tmp_path / of_onnx_only).touch()
    report = build(tiny_path("logits"), "two", config, tmp_path, photos)
    engines = ["logits.two.sm120.engine", "logits.two.sm86.engine"]
    # The graph is what they were built from, no product: no manifest, and nothing is left to be built or adopted.
    assert listing(tmp_path) == sorted([*engines, *(f"{name}.manifest.json" for name in engines), "logits.two.onnx"])
    assert report.to_dict()["trtexec"] is None
    for product, target in zip(report.products, ("8.6", "12.0"), strict=True):
        manifest = Manifest.read(product)
        assert manifest is not None
        assert manifest.is_engine
        assert manifest.target is not None
        assert manifest.target.compute_capability == target
        assert manifest.graph is not None
        assert manifest.graph.sha256 == file_sha256(tmp_path / "logits.two.onnx")
        manifest.check(product, machine=False)
    if "logits.two.onnx on cpu" in report.ran_on:  # no GPU here: that is said
        assert any("not the product itself" in note for note in report.notes)
    fixed = build(tiny_path("fixed-batch"), "one", parse_config("backend: tensorrt_rtx", "f"), tmp_path / "o", photos)
    assert [path.name for path in fixed.products] == ["fixed-batch.one.engine"]


def test_the_graph_for_another_machine(tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]) -> None:
    config = parse_config(
        "backend: tensorrt\nbuilder: {compute_capability: [8.7]}\nengine: {cuda_graph: true}\nbatch: {max: 4}", "f.yaml"
    )
    report = build(tiny_path("logits"), "orin", config, tmp_path / "out", photos, onnx_only=True)
    assert listing(tmp_path / "out") == [
        "logits.orin.onnx",
        "logits.orin.onnx.manifest.json",
        "logits.orin.trtexec.sh",
    ]
    data = json.loads((tmp_path / "out" / "logits.orin.onnx.manifest.json").read_text())
    assert data["trtexec"].startswith("trtexec --onnx=logits.orin.onnx --saveEngine=logits.orin.engine")
    assert "--maxShapes=image:4x3x32x48,cam_target:4 --stronglyTyped" in data["trtexec"]
    with Explainer(report.products[0]) as explainer:  # to try it here; the engine's options are not for this
        assert explainer.provider == "cpu"


def test_what_the_precision_pass_remarks_is_reported(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]
) -> None:
    half = parse_config(
        "backend: tensorrt\nprecision: int8\nquantisation: {symmetric: true, rest: float16}\ncalibration: {images: 8}",
        "half.yaml",
    )
    options: Any = {"allow_failing": True, "onnx_only": True}
    report = build(tiny_path("tail"), "half", half, tmp_path / "out", photos, **options)
    (note,) = (one for one in report.to_dict()["notes"] if "no tail was written" in one)
    assert note in report.notes


def test_what_is_absent_is_said_before_any_work(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("cfcam.calibration.build.lowering.lower", refuse)
    monkeypatch.setattr("cfcam.calibration.build.pipeline.choose_photos", refuse)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    source, out = tiny_path("logits"), tmp_path / "out"
    name, orin = read_config("jetson-orin-fp16")
    monkeypatch.setattr(packages, "_in_use", None)
    with pytest.raises(MissingDependencyError, match=r"'jetson-orin-fp16': tensorrt is not .*give --onnx-only"):
        build(source, name, orin, out, photos)
    with pytest.raises(ImageError, match=r"configuration 'cpu-int8' is INT8, .*give --images"):
        build(source, *read_config("cpu-int8"), out, allow_failing=True)
    with pytest.raises(ImageError, match="the gate compares explanations on photos"):
        build(source, "cpu", CPU, out)
    with pytest.raises(ImageError, match="judges each attempt on photos"):
        build(source, "cpu", CPU, out, auto_precision=True)
    far = parse_config("backend: tensorrt_rtx\nbuilder: {compute_capability: [8.6, 9.9]}", "f.yaml")
    require_tensorrt()
    with pytest.raises(EngineError, match=r"'far': tensorrt_rtx builds for 7\.5, .*, not for compute capability 9\.9"):
        build(source, "far", far, out, photos)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: is a file, the folder for the products was expected"):
        build(source, "cpu", CPU, tmp_path / "file", photos)
    with pytest.raises(ModelFileError, match="was not made by `cfcam export`"):
        build(tiny_path("plain"), "cpu", CPU, out, photos)
    same = tmp_path / "logits.cam.onnx"
    same.write_bytes(source.read_bytes())
    with pytest.raises(OutputError, match=r"logits\.cam\.onnx: is the file that is read"):
        build(same, "cam", CPU, tmp_path, photos)
    assert not out.exists() or not listing(out)


def test_a_provider_that_is_not_here(tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]) -> None:
    config = parse_config("backend: onnxruntime\nengine: {provider: qnn}", "f.yaml")
    report = build(tiny_path("logits"), "far", config, tmp_path, photos)
    assert report.passed
    assert report.ran_on == "logits.far.onnx on cpu"
    assert any("not the product itself: provider 'qnn' is not in this onnxruntime" in note for note in report.notes)
    manifest = Manifest.read(report.products[0])
    assert manifest is not None
    assert manifest.engine["provider"] == "qnn"  # where it is going to run


def test_without_photos_nobody_judged(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    report = build(tiny_path("logits"), "cpu", CPU, tmp_path, allow_failing=True)
    assert report.passed is None
    manifest = Manifest.read(report.products[0])
    assert manifest is not None
    assert manifest.gate is None


def test_a_disk_that_fills_up_leaves_nothing(
    tiny_path: Callable[[str], Path], tmp_path: Path, photos: list[Path]
) -> None:
    """The system refuses the engine's last bytes, as a full disk does."""
    require_tensorrt()
    config = parse_config("backend: tensorrt_rtx\nbuilder: {compute_capability: [8.6]}", "f.yaml")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"out: cannot be written \(File too large\)"):
            build(tiny_path("logits"), "two", config, tmp_path / "out", photos)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert listing(tmp_path / "out") == []


def test_corrupt_photos_are_reported(tiny_path: Callable[[str], Path], tmp_path: Path) -> None:
    found = make_photos(tmp_path / "photos", 12)
    corrupt = corrupt_photos(tmp_path / "photos", 3)
    report = build(tiny_path("logits"), "cpu", CPU, tmp_path / "out", [*found, *corrupt])
    assert report.passed
    assert report.photos is not None
    assert {path for path, _ in report.photos.failures} == set(corrupt)
