"""Files with several target layers, explained: all layers fused, one alone, by the command and by the measures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration.measures import EngineAccess, gradient_noise
from cfcam.cli import main
from cfcam.runtime import Explainer, cam_map
from cfcam.runtime.cam import normalise
from cfcam.runtime.errors import MethodError, SpecError
from cfcam.runtime.methods.layer_fusion import FUSIONS, GUIDED
from cfcam.runtime.smoothing import Smoothing
from PIL import Image

onnx = pytest.importorskip("onnx", reason="exporting needs onnx")

import onnx_classifiers  # noqa: E402
from cfcam.export.onnx_export import export_onnx  # noqa: E402
from cfcam.export.sources.preprocessing import preset  # noqa: E402

SIZE = 32


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers "last", which is pooled, and "early", on a grid twice as fine; with the tail of the first."""
    folder = tmp_path_factory.mktemp("fused")
    onnx.save(onnx_classifiers.plain(), str(folder / "net.onnx"))
    layers, pixels = ["last", "early"], preset("torchvision")
    export_onnx(folder / "net.onnx", folder / "x.cam.onnx", layer=layers, preprocessing=pixels, with_tail=True)
    return folder / "x.cam.onnx"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photo") / "photo.png"
    values = np.random.default_rng(4).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(values).resize((48, 40), Image.Resampling.BICUBIC).save(place)
    return place


@pytest.fixture
def explainer(path: Path) -> Iterator[Explainer]:
    with Explainer(path, threads=1) as opened:
        yield opened


def test_tensors_hold_every_layer(explainer: Explainer, photo: Path) -> None:
    raw = explainer.tensors([photo, photo], [1, 2])
    assert [one.activations.shape for one in raw.layers] == [(2, 16, 8, 8), (2, 8, 16, 16)]
    assert raw.layers[0].activations is raw.activations
    assert raw.layers[1].detail is None
    assert np.ptp(raw.gradients[0, 0]) == 0
    assert np.ptp(raw.layers[1].gradients[0, 0]) > 0


def test_each_layer_has_its_own_last(explainer: Explainer, photo: Path) -> None:
    """As by hand: the method on each layer, with `last` as the layer is, and the gate of the maps."""
    raw = explainer.tensors([photo], 3)
    maps = [
        cam_map(one.activations, one.gradients, "cfcam", {"last": layer.pooled})[0]
        for one, layer in zip(raw.layers, explainer.spec.layers, strict=True)
    ]
    found = explainer.explain(photo, 3)
    expected = normalise(normalise(maps[0], (16, 16)) * (0.3 + 0.7 * maps[1]), SIZE)
    np.testing.assert_allclose(found.map, expected, atol=1e-5)
    assert (found.fusion, found.layer, found.grid) == ("gate", "last, early", (16, 16))
    assert found.settings["last"] is None
    assert found.to_dict()["fusion"] == "gate"
    wrong = [cam_map(one.activations, one.gradients, "cfcam", {"last": True})[0] for one in raw.layers]
    assert np.abs(wrong[1] - maps[1]).max() > 1e-3, "the setting matters in the early layer"


@pytest.mark.parametrize("index", [0, 1])
def test_one_layer_alone(path: Path, photo: Path, index: int) -> None:
    name = ("last", "early")[index]
    with Explainer(path, threads=1) as every, Explainer(path, threads=1, layer=name) as alone:
        raw, found = every.tensors([photo], 2).layers[index], alone.explain(photo, 2, "hirescam")
        assert len(alone.tensors([photo], 2).layers) == 1
    expected = normalise(cam_map(raw.activations, raw.gradients, "hirescam")[0], SIZE)
    np.testing.assert_allclose(found.map, expected, atol=1e-6)
    assert (found.fusion, found.layer, found.grid) == (None, name, raw.activations.shape[2:])
    assert (alone.spec.tail is None) == (index == 1), "the tail is that of the first layer"


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != GUIDED])
def test_fusions_and_batches(path: Path, photo: Path, fusion: str) -> None:
    with Explainer(path, threads=1, fusion=fusion) as explainer:
        together = explainer.explain_batch([photo, photo], [1, 4], "gradcam")
        single = explainer.explain(photo, 4, "gradcam")
        maps = explainer.maps(np.random.default_rng(0).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32))
    np.testing.assert_allclose(together[1].map, single.map, atol=1e-6)
    assert maps.shape == (2, SIZE, SIZE)
    assert single.fusion == fusion


def test_smoothing_and_probes(explainer: Explainer, photo: Path) -> None:
    """Copies with noise are fused like the image itself; a probe works with the first layer, whose tail there is."""
    still = explainer.explain(photo, 1, "gradcam")
    smooth = explainer.explain(photo, 1, "gradcam", smooth=Smoothing(copies=2, noise=0))
    np.testing.assert_allclose(smooth.map, still.map, atol=1e-5)
    probe = explainer.explain(photo, 1, "ablationcam")
    assert (probe.layer, probe.fusion, probe.grid) == ("last", None, (8, 8))


def test_refinecam_fuses_in_its_own_way(path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The product of Grad-CAM++ on both layers, each from 0 to 1 on the finer grid, whatever the file says."""
    with Explainer(path, threads=1) as explainer:
        found = explainer.explain(photo, 2, "refinecam")
        access = EngineAccess(explainer, "refinecam")
        raw = explainer.tensors([photo], 2)
        images, _ = access.load([photo])
        rule = access.rule(access.tensors(images, [2]).layers)[0]
    expected = np.ones((16, 16), np.float32)
    for layer in raw.layers:
        heat = normalise(cam_map(layer.activations, layer.gradients, "gradcam++")[0], (16, 16))
        expected *= (heat - heat.min()) / np.ptp(heat)
    assert expected.max() > 0
    np.testing.assert_allclose(rule, expected, atol=1e-5)
    np.testing.assert_allclose(found.map, normalise(expected, SIZE), atol=1e-4)
    assert (found.fusion, found.layer, found.grid) == ("refine", "last, early", (16, 16))
    with Explainer(path, threads=1, layer="last") as alone, pytest.raises(MethodError, match="there is one layer only"):
        alone.explain(photo, 2, "refinecam")
    with pytest.raises(MethodError, match="use Explainer, and a file with several"):
        cam_map(raw.activations, raw.gradients, "refinecam")
    assert main(["explain", str(path), str(photo), "-m", "refinecam", "--layers-fusion", "gate"]) == 2
    assert "has a way of its own to fuse layers" in " ".join(capsys.readouterr().err.split())


def test_what_is_refused(path: Path) -> None:
    with pytest.raises(SpecError, match="no target layer 'middle': it has last, early"):
        Explainer(path, layer="middle")
    with pytest.raises(MethodError, match="unknown fusion 'sum'"):
        Explainer(path, fusion="sum")
    with pytest.raises(MethodError, match="there is one layer only, 'early'"):
        Explainer(path, layer="early", fusion="max")


def test_measures_see_the_fused_map(explainer: Explainer, photo: Path) -> None:
    access = EngineAccess(explainer, "layercam")
    images, _ = access.load([photo])
    classes = np.array([2])
    np.testing.assert_allclose(
        access.explain(images, classes)[0], explainer.explain(photo, 2, "layercam").map, atol=1e-6
    )
    layers = access.tensors(images, classes).layers
    assert [one.activations.shape[2:] for one in layers] == [(8, 8), (16, 16)]
    np.testing.assert_allclose(normalise(access.rule(layers)[0], SIZE), access.explain(images, classes)[0], atol=1e-6)
    assert 0 < gradient_noise(access.rule, layers, level=0.5)[0] < 1
    with pytest.raises(MethodError, match="runs the model again"):
        EngineAccess(explainer, "scorecam").rule(layers)


def test_the_commands(path: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "last: 16 channels, 8x8, before the last pooling" in out
    assert "early: 8 channels, 16x16" in out
    assert "gate of the layers' maps" in out
    picture = tmp_path / "why.png"
    command = ["explain", str(path), str(photo), "-t", "2", "--json"]
    assert main([*command, "--layers-fusion", "mean", "-o", str(picture)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["layers"] == ["last", "early"]
    assert document["results"][0]["fusion"] == "mean"
    assert picture.is_file()
    assert main([*command, "--use-layer", "early"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["layer"] == "early"
    assert "fusion" not in document["results"][0]
    assert main([*command, "--use-layer", "nowhere"]) == 2
    assert "no target layer 'nowhere': it has last, early" in capsys.readouterr().err
