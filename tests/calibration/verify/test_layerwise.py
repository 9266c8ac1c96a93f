"""An INT8 file with one bad range: the node that has it is named."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cfcam.calibration.verify.layerwise import compare_layerwise
from cfcam.export import export_onnx, preset
from cfcam.export.precision import Plan, lower
from cfcam.runtime.contract.manifest import BackendRecord, FileRecord, Manifest, ProductRecord
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt import build, packages
from cfcam.runtime.errors import EngineError, MissingDependencyError, ModelFileError
from cfcam.runtime.photos.images import open_image
from cfcam.runtime.photos.preprocess import prepare
from onnx import numpy_helper
from shared_data import shared_path

NETWORK = "mobilenet_v2_1.0_224.onnx"


@pytest.fixture(scope="module")
def folder(made_once: Callable[[str, Callable[[Path], object]], Path], photos: list[Path]) -> Path:
    """A folder with the network in float32, float16 and INT8."""

    def make(folder: Path) -> None:
        plain = folder / "float32.cam.onnx"
        export_onnx(shared_path(f"models/{NETWORK}"), plain, preprocessing=preset("tf"))
        tensors = np.stack([prepare(open_image(one), read_spec(plain).input).tensor for one in photos])
        for precision in ("int8", "float16"):
            plan = Plan(precision=precision)  # type: ignore[arg-type]
            lower(plain, folder / f"{precision}.cam.onnx", plan, [tensors], prove=False)

    return made_once("layerwise", make)


def with_bad_range(source: Path, output: Path, value: str, factor: float) -> Path:
    """`source` with the scale of the pair on `value` alone `factor` times what it was."""
    model = onnx.load(source)
    (pair,) = (node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == value)
    scale = next(one for one in model.graph.initializer if one.name == pair.input[1])
    bad = (numpy_helper.to_array(scale) * factor).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bad, "bad_scale"))
    for node in model.graph.node:
        if node is pair or (node.input and node.input[0] == pair.output[0]):
            node.input[1] = "bad_scale"
    onnx.save(model, output)
    return output


@pytest.mark.parametrize("place", [0.05, 0.3, 0.6, 1])
def test_a_bad_range_is_found_by_name(folder: Path, photos: list[Path], tmp_path: Path, place: float) -> None:
    quantised = [node for node in onnx.load(folder / "int8.cam.onnx").graph.node if node.op_type == "QuantizeLinear"]
    value = quantised[int(place * (len(quantised) - 1))].input[0]
    narrow = with_bad_range(folder / "int8.cam.onnx", tmp_path / "narrow.cam.onnx", value, 1 / 20)
    report = compare_layerwise(narrow, folder / "float32.cam.onnx", photos)
    first, second = report.jumps[:2]
    assert (first.value, first.operator, first.node) == (value, "DequantizeLinear", f"{value}_DequantizeLinear")
    assert first.jump > 1.5 * second.jump
    assert first.after > 0.7 > first.before


def test_a_range_that_is_too_wide(folder: Path, photos: list[Path], tmp_path: Path) -> None:
    """It harms less: convolutions whose weights lie badly may come before it, but no other range does."""
    value = "t113"
    wide = with_bad_range(folder / "int8.cam.onnx", tmp_path / "wide.cam.onnx", value, 20)
    jumps = compare_layerwise(wide, folder / "float32.cam.onnx", photos).jumps
    assert next(one.value for one in jumps if one.operator == "DequantizeLinear") == value
    assert value in [one.value for one in jumps[:5]]


@pytest.mark.parametrize(("precision", "most"), [("int8", 10.0), ("float16", 2.0)])
def test_good_files_have_no_such_jump(folder: Path, photos: list[Path], precision: str, most: float) -> None:
    """What a ReLU forgets of a range that begins at 0 is none."""
    report = compare_layerwise(folder / f"{precision}.cam.onnx", folder / "float32.cam.onnx", photos)
    forward = [one for one in report.jumps if not one.value.startswith(("cam_gradients", "cam_rivals"))]
    assert forward[0].jump < most
    assert all(one.jump < 2.5 for one in forward if one.operator == "DequantizeLinear")
    assert 0.85 * report.values < report.compared <= report.values  # not the numbered ones of gradient and rivals
    assert (report.photos, report.note) == (4, "")
    document = report.to_dict(most=3)
    assert [one["node"] for one in document["jumps"]] == [one.node for one in report.jumps[:3]]
    assert document["jumps"][0].keys() == {"node", "operator", "value", "before", "after", "jump"}


def engine_of(graph: Path, engine: Path) -> Path:
    """What the manifest says of an engine that was built from `graph`; there is nothing in it."""
    engine.write_bytes(b"plan")
    Manifest(
        product=ProductRecord.of(engine),
        source=FileRecord.of(graph),
        graph=FileRecord.of(graph),
        backend=BackendRecord(name="tensorrt", version="10.3.0"),
        precision="float32",
        spec=read_spec(graph).to_dict(),
        created="2026-11-24T12:00:00Z",
    ).write(engine)
    return engine


def test_an_engine_is_built_again_from_its_graph(
    tiny_path: Callable[[str], Path], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polygraphy's TensorRT runner is a stand-in that computes the marked graph, one value of it wrongly."""
    graph = tmp_path / "x.onnx"
    graph.write_bytes(tiny_path("logits").read_bytes())

    class TrtRunner:
        def __init__(self, plan: bytes) -> None:
            self._session: Any = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])

        def __enter__(self) -> TrtRunner:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def infer(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            names = [one.name for one in self._session.get_outputs()]
            values = dict(zip(names, self._session.run(names, feed), strict=True))
            for name in ("pooled", "features", "scores"):
                values[name] = values[name] * 3
            return values

    @contextlib.contextmanager
    def polygraphy() -> Iterator[Any]:
        yield types.SimpleNamespace(TrtRunner=TrtRunner, EngineFromBytes=lambda plan: plan), None

    monkeypatch.setattr(build, "build_engine", lambda path, **options: path.read_bytes())
    monkeypatch.setattr(packages, "load_package", lambda name: types.SimpleNamespace(polygraphy=polygraphy))
    report = compare_layerwise(engine_of(graph, tmp_path / "x.engine"), tiny_path("logits"), photos)
    assert (report.jumps[0].value, report.jumps[0].after) == ("pooled", pytest.approx(2))
    assert report.reference == str(graph)
    assert "not x.engine itself but an engine that was built from its graph" in report.note
    assert report.to_dict()["note"] == report.note


def test_what_cannot_be_compared(
    tiny_path: Callable[[str], Path], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_path("logits")
    model = onnx.load(plain)
    for node in model.graph.node:
        node.op_type = "Unknown"
        for number, name in enumerate(node.output):
            node.output[number] = f"other_{name}"
    onnx.save(model, tmp_path / "other.cam.onnx")
    with pytest.raises(EngineError, match="no value of the one could be found in the other"):
        compare_layerwise(tmp_path / "other.cam.onnx", plain, photos)
    engine = engine_of(tmp_path / "other.cam.onnx", tmp_path / "x.engine")
    (tmp_path / "other.cam.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"the graph that it was built from \(other\.cam\.onnx\) is not beside it"):
        compare_layerwise(engine, plain, photos)
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(MissingDependencyError, match=r"--layerwise needs polygraphy: install cfcam\[build\]"):
        compare_layerwise(plain, plain, photos)
