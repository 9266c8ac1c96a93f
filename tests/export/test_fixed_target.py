"""Files with the class inside: fed with an image alone, they give out what the told file gives for that class."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime
import pytest
from cfcam.calibration.build.config import BuildConfig
from cfcam.calibration.build.job import make_job
from cfcam.calibration.measures.access import EngineAccess
from cfcam.cli.app import app
from cfcam.export import ExportError, export_onnx
from cfcam.export.fixed_target import fixed_index
from cfcam.export.precision import Plan, lower
from cfcam.export.sources.preprocessing import preset
from cfcam.export.triton.config import TritonPlan
from cfcam.export.triton.repository import write_repository
from cfcam.runtime import Explainer
from cfcam.runtime.contract.spec import OutputSpec
from cfcam.runtime.errors import ModelFileError, TargetError
from PIL import Image
from typer.testing import CliRunner

LABELS = ("tench", "crane", "owl", "newt", "toad", "frog", "tram")
NOISE = np.random.default_rng(0).standard_normal((4, 3, 32, 32))
#: Of several colours, so that their top classes differ.
COLOURS = 4 * np.random.default_rng(1).standard_normal((4, 3, 1, 1))
PIXELS = np.clip(np.rint(127.5 + 25 * (NOISE + COLOURS)), 0, 255).astype(np.float32)
BATCH = (PIXELS / 20 - 6).astype(np.float32)
PREPARED = preset("tf").override(scale=1 / 20, mean=(6.0,), std=(1.0,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixed")
    onnx.save(onnx_classifiers.make("plain"), folder / "net.onnx")
    for name, options in {
        "told": {},
        "told_fused": {"fused": True},
        "top": {"fixed_target": "top", "fused": True, "fold_preprocessing": "float"},  # pixels in, and nothing else
        "owl": {"fixed_target": "owl"},
    }.items():
        path = folder / f"{name}.cam.onnx"
        export_onnx(folder / "net.onnx", path, labels=LABELS, preprocessing=PREPARED, **options)
    return folder


def run(path: Path, **feeds: Any) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == list(feeds)
    return {o.name: np.asarray(v) for o, v in zip(session.get_outputs(), session.run(None, feeds), strict=True)}


@pytest.mark.parametrize(("name", "told", "index"), [("top", "told_fused", -1), ("owl", "told", 2)])
def test_the_image_alone_gives_what_the_told_file_gives(folder: Path, name: str, told: str, index: int) -> None:
    found = run(folder / f"{name}.cam.onnx", image=PIXELS if name == "top" else BATCH)
    expected = run(folder / f"{told}.cam.onnx", image=BATCH, cam_target=np.full(4, index))
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == (np.float32 if value.dtype == np.float32 else np.int32)
        assert found[key].ndim >= 2  # one number per image is (N, 1)
        flat = found[key].reshape(value.shape)
        np.testing.assert_allclose(flat, value.astype(flat.dtype), rtol=1e-5, atol=2e-5)
    best = found["logits"].argmax(axis=1)
    assert found["cam_class"].tolist() == ([[i] for i in best] if index < 0 else [[2]] * 4)
    assert len(set(best)) > 1  # or a constant would pass for the top class


def test_explainers_take_the_class_that_is_there_and_no_other(folder: Path) -> None:
    with Explainer(folder / "owl.cam.onnx") as owl, Explainer(folder / "told.cam.onnx") as told:
        expected = told.explain_batch(BATCH, 2)
        for target in (None, 2, "owl"):
            for one, other in zip(owl.explain_batch(BATCH, target), expected, strict=True):
                assert one.target == 2
                np.testing.assert_allclose(one.map, other.map, atol=2e-5)
        with pytest.raises(TargetError, match=r"explains class 2 \(owl\) alone, not 1 \(crane\)"):
            owl.explain(BATCH[0], "crane")
        with pytest.raises(ModelFileError, match="asks for other classes too"):
            EngineAccess(owl)
    with Explainer(folder / "top.cam.onnx") as top:
        best = top.explain(PIXELS[0]).target
        assert top.explain(PIXELS[0], best).target == best
        with pytest.raises(TargetError, match="explains the top class of each image alone, here"):
            top.explain(PIXELS[0], (best + 1) % 7)


def test_what_commands_make_of_it(folder: Path, tmp_path: Path) -> None:
    photo, path = tmp_path / "photo.png", str(folder / "owl.cam.onnx")
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(photo)
    assert "owl (2) alone" in CliRunner().invoke(app, ["inspect", path]).stdout
    for command in (
        ["check", path],
        ["explain", path, str(photo), "-t", "owl"],
        ["bench", path, "--image", str(photo), "--runs", "2"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    refused = CliRunner().invoke(app, ["explain", path, str(photo), "-t", "tram"])
    assert isinstance(refused.exception, TargetError)
    assert "without --fixed-target" in str(refused.exception)


def test_what_needs_other_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "owl.cam.onnx"
    with pytest.raises(ModelFileError, match="without --fixed-target and build"):
        make_job(path, "c", BuildConfig(backend="onnxruntime"), tmp_path)
    with pytest.raises(ExportError, match="without --fixed-target, and lower"):
        lower(path, tmp_path / "half.cam.onnx", Plan(precision="float16"))
    with pytest.raises(ExportError, match="clients of this layout name a class"):
        write_repository(path, tmp_path / "models", TritonPlan(name="m"))
    with pytest.raises(ExportError, match="--classes-per-image or --fixed-target"):
        export_onnx(folder / "net.onnx", tmp_path / "x.cam.onnx", fixed_target="top", classes_per_image=2)


def test_which_class_is_meant() -> None:
    output = OutputSpec(name="y", score="y", classes=7, labels=LABELS)
    assert [fixed_index(asked, output) for asked in ("top", "owl", "3", 4)] == [-1, 2, 3, 4]
    with pytest.raises(TargetError, match="no class is called 'cat'"):
        fixed_index("cat", output)
    ages: Any = SimpleNamespace(**{"values": 1, "classes": 2, "labels": None})
    assert fixed_index("top", ages) == fixed_index(0, ages) == 0
    with pytest.raises(ExportError, match="only the first value"):
        fixed_index(1, ages)
