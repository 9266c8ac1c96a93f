"""Settings that were found, in a file."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.tune import search as tuning
from cfcam.calibration.tune.file import PROVENANCE, write_tuned
from cfcam.calibration.tune.search import tune
from cfcam.runtime import Explainer
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import OutputError


@pytest.fixture
def explainer(tiny_path):
    with Explainer(tiny_path("logits")) as opened:
        yield opened


def samples(explainer, count=32):
    rng = np.random.default_rng(0)
    spec = explainer.spec.input
    photos = [rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8) for _ in range(count)]
    return [tuning.read_sample(explainer, photo, f"{i}.png") for i, photo in enumerate(photos)]


def planted(measure):
    """Trials whose values are `measure` (settings, sample) and whose stability is 1."""

    class Planted(tuning._Trials):
        def values(self, samples, settings):
            return np.array([measure(settings, one) for one in samples]), np.ones(len(samples))

    return Planted


def noise(one, scale=0.01):
    return scale * np.random.default_rng(int(one.name.split(".")[0])).standard_normal()


def test_the_file_carries_settings_and_their_provenance(explainer, monkeypatch, tiny_path, tmp_path):
    monkeypatch.setattr(tuning, "_Trials", planted(lambda s, one: 0.1 * (s.get("shrinkage") == 0.25) + noise(one)))
    found = tune(explainer, samples(explainer))
    path = write_tuned(tiny_path("logits"), tmp_path / "tuned.cam.onnx", found, {"0.png": "00"})
    spec = read_spec(path)
    assert (spec.method.name, spec.method.settings) == ("cfcam", {"shrinkage": 0.25})
    assert spec.extra[PROVENANCE]["held_out"] == found.held_out
    assert spec.extra[PROVENANCE]["images"] == {"0.png": "00"}
    photo = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with Explainer(path) as tuned:
        assert tuned.explain(photo).settings["shrinkage"] == 0.25
        np.testing.assert_array_equal(
            tuned.explain(photo).map, explainer.explain(photo, settings={"shrinkage": 0.25}).map
        )


def test_never_onto_the_file_that_is_read(explainer, monkeypatch, tiny_path):
    monkeypatch.setattr(tuning, "_Trials", planted(lambda s, one: noise(one)))
    found = tune(explainer, samples(explainer))
    with pytest.raises(OutputError, match="is the file that is read"):
        write_tuned(tiny_path("logits"), tiny_path("logits"), found, {})
