"""Files that explain several classes at once, for those who read them: explaining, inspecting, lowering, timing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.cli.app import app
from cfcam.export import ExportError, export_onnx
from cfcam.export.precision import Plan, lower
from cfcam.runtime import Explainer, open_engine, read_spec
from PIL import Image
from typer.testing import CliRunner

PHOTOS = [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)) for seed in (1, 2)]


class Counting:
    """Counts the runs of another engine."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.runs = engine, 0

    def describe(self) -> Any:
        return self.engine.describe()

    def infer(self, *arguments: Any) -> Any:
        self.runs += 1
        return self.engine.infer(*arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    onnx.save(onnx_classifiers.make("softmax"), folder / "net.onnx")
    for name, count in (("plain", None), ("free", "free"), ("two", 2)):
        export_onnx(folder / "net.onnx", folder / f"{name}.cam.onnx", classes_per_image=count)
    return folder


@pytest.mark.parametrize(("name", "runs"), [("free", 1), ("two", 2), ("plain", 4)])
def test_maps_are_those_of_single_classes_in_fewer_inferences(name: str, runs: int, folder: Path) -> None:
    path = folder / f"{name}.cam.onnx"
    with open_engine(path) as engine, Explainer(folder / "plain.cam.onnx") as plain:
        counting: Any = Counting(engine)
        with Explainer(path, engine=counting) as explainer:
            found = explainer.explain_classes(PHOTOS, [-1, 0, -2])
            assert counting.runs == runs  # a plain file is asked for the order of the scores besides
            pair = explainer.explain(PHOTOS[0], 0, against=1)
            assert counting.runs - runs == (2 if name == "plain" else 1)
            assert explainer.explain_top(PHOTOS[1], 2)[1].target == found[1][2].target
            single = explainer.explain(PHOTOS[0], 1)
        np.testing.assert_allclose(pair.map, plain.explain(PHOTOS[0], 0, against=1).map, atol=1e-6)
        np.testing.assert_allclose(single.map, plain.explain(PHOTOS[0], 1).map, atol=1e-6)
        for photo, explanations in zip(PHOTOS, found, strict=True):
            best = plain.explain(photo).top
            for one, target in zip(explanations, [best[0][0], 0, best[1][0]], strict=True):
                alone = plain.explain(photo, target)
                assert (one.target, one.counts) == (alone.target, alone.counts)
                np.testing.assert_allclose(one.map, alone.map, atol=1e-6)


def test_what_else_reads_such_a_file(folder: Path, tmp_path: Path) -> None:
    path = str(folder / "free.cam.onnx")
    photo = str(tmp_path / "photo.png")
    PHOTOS[0].save(photo)
    explained = CliRunner().invoke(app, ["explain", path, photo, "-t", "0", "-t", "1", "--json"])
    results = json.loads(explained.stdout)["results"]
    assert [one["target"] for one in results] == [0, 1]
    assert "as many as asked for of each image" in CliRunner().invoke(app, ["inspect", path]).stdout
    for command in (["check", path], ["bench", path, "--image", photo, "--runs", "2"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    with Explainer(path) as explainer:
        assert explainer.explain(PHOTOS[0], smooth=2).smoothing is not None
        assert explainer.explain(PHOTOS[0], method="scorecam").method == "scorecam"


@pytest.mark.parametrize("name", ["free", "two"])
def test_in_float16_the_columns_stay(name: str, folder: Path, tmp_path: Path) -> None:
    lowered = lower(folder / f"{name}.cam.onnx", tmp_path / "half.cam.onnx", Plan(precision="float16"))
    assert lowered.proof, lowered.proof.rows()
    assert read_spec(lowered.path).columns == read_spec(folder / f"{name}.cam.onnx").columns


def test_numbers_of_classes_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    for count, words in (
        (0, "a number from 1"),
        ("many", "'free'"),
        (True, "got True"),
        (9999, "9999 classes per image"),
    ):
        with pytest.raises(ExportError, match=words):
            export_onnx(folder / "net.onnx", tmp_path / "x.cam.onnx", classes_per_image=count)
