"""The default depends on the class, the published form does not: on real photos, real weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration import class_sensitivity
from cfcam.runtime import Explainer
from shared_data import shared_path


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
@pytest.mark.parametrize("layer", ["last", "middle"])
def test_the_default_depends_on_the_class_on_every_photo(lite0: Callable[[str], Path], layer: str) -> None:
    found = sensitivities(lite0(layer), "cfcam")
    assert len(found) == 10
    assert found.min() > 1e-4
    assert np.median(found) > (0.01 if layer == "last" else 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cfcam-paper", "cfcam-released"])
def test_the_published_form_does_not_see_the_class(lite0: Callable[[str], Path], method: str) -> None:
    """Not a wish but a documented fact (docs/method.md): its softmax over tiny weights is uniform."""
    assert np.abs(sensitivities(lite0("last"), method)).max() < 1e-3


@pytest.mark.slow
def test_the_two_dogs_are_told_apart(lite0: Callable[[str], Path]) -> None:
    photo = shared_path("data/photos/two_dogs.jpg")
    with Explainer(lite0("last"), threads=1) as explainer:
        bull, greyhound = explainer.explain_batch([photo, photo], targets=[195, 171])
    assert bull.peak is not None
    assert greyhound.peak is not None
    assert bull.peak[0] > 0.6  # the Boston bull sits at the right
    assert greyhound.peak[0] < 0.4  # the Italian greyhound at the left
