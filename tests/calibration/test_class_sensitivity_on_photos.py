"""The default depends on the class, the published form does not: on real photos, real weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration import class_sensitivity
from cfcam.cli.demo import load_lite0
from cfcam.export import export_torch, preset
from cfcam.runtime import Explainer
from filelock import FileLock
from shared_data import shared_path

LAYERS = {"last": None, "middle": "_blocks.10"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """EfficientNet-Lite0 in its last and a middle layer, exported once for all workers."""
    folder = tmp_path_factory.getbasetemp().parent / "lite0"
    folder.mkdir(exist_ok=True)
    found = {name: folder / f"{name}.cam.onnx" for name in LAYERS}
    with FileLock(folder / "lock"):
        for name, layer in LAYERS.items():
            if not found[name].exists():
                export_torch(load_lite0(), 224, found[name], layer=layer, preprocessing=preset("lite"))
    return found


def photos() -> list[Path]:
    labels = json.loads(shared_path("data/photos/labels.json").read_text())
    return [shared_path("data/photos") / name for name, entry in labels.items() if entry["imagenet_idx"] is not None]


def sensitivities(path: Path, method: str) -> np.ndarray:
    """1 - correlation between the maps of the two best classes, for every photo."""
    found = []
    with Explainer(path, threads=1) as explainer:
        for photo in photos():
            first, second = (index for index, *_ in explainer.explain(photo).top[:2])
            maps = explainer.explain_batch([photo, photo], targets=[first, second], method=method)
            found.append(class_sensitivity(maps[0].map, maps[1].map))
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_the_default_depends_on_the_class_on_every_photo(files: dict[str, Path], layer: str) -> None:
    found = sensitivities(files[layer], "cfcam")
    assert len(found) == 10
    assert found.min() > 1e-4
    assert np.median(found) > (0.01 if layer == "last" else 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cfcam-paper", "cfcam-released"])
def test_the_published_form_does_not_see_the_class(files: dict[str, Path], method: str) -> None:
    """Not a wish but a documented fact (docs/method.md): its softmax over tiny weights is uniform."""
    assert np.abs(sensitivities(files["last"], method)).max() < 1e-3


@pytest.mark.slow
def test_the_two_dogs_are_told_apart(files: dict[str, Path]) -> None:
    photo = shared_path("data/photos/two_dogs.jpg")
    with Explainer(files["last"], threads=1) as explainer:
        bull, greyhound = explainer.explain_batch([photo, photo], targets=[195, 171])
    assert bull.peak is not None
    assert greyhound.peak is not None
    assert bull.peak[0] > 0.6  # the Boston bull sits at the right
    assert greyhound.peak[0] < 0.4  # the Italian greyhound at the left
