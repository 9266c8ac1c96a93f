"""Settings found on some photos are kept only when they gain on others."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.statistics import TooFewPhotosError
from cfcam.calibration.tune import search as tuning
from cfcam.calibration.tune.search import CHOICES, GATE_CHOICES, Sample, halves, tune
from cfcam.runtime import Explainer
from cfcam.runtime.methods import CfcamSettings


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


def test_choices_begin_with_the_defaults():
    defaults = CfcamSettings()
    every = {**CHOICES, **GATE_CHOICES}
    assert {name: values[0] for name, values in every.items()} == {n: getattr(defaults, n) for n in every}


def test_a_real_gain_is_found_and_kept(explainer, monkeypatch):
    def measure(settings, one):
        return 0.1 * (settings.get("shrinkage") == 0.25) + 0.05 * (settings.get("sigma") == 2.0) + noise(one)

    monkeypatch.setattr(tuning, "_Trials", planted(measure))
    found = tune(explainer, samples(explainer))
    assert found.settings == found.best == {"shrinkage": 0.25, "sigma": 2.0}
    assert found.gain is not None
    assert found.gain.low > 0
    assert found.complete
    assert found.searched == found.held_out == 16


def test_a_gain_on_the_searched_photos_alone_is_not_kept(explainer, monkeypatch):
    every = samples(explainer)
    searched = {one.name for one in halves(every)[0]}
    measure = planted(lambda s, one: 0.1 * (s.get("sigma") == 2.0) * (one.name in searched) + noise(one))
    monkeypatch.setattr(tuning, "_Trials", measure)
    found = tune(explainer, every)
    assert found.best == {"sigma": 2.0}
    assert found.settings == {}


def test_nothing_better_keeps_the_defaults(explainer, monkeypatch):
    monkeypatch.setattr(tuning, "_Trials", planted(lambda s, one: -float(len(s)) + noise(one)))
    found = tune(explainer, samples(explainer))
    assert (found.settings, found.best, found.gain) == ({}, {}, None)


def test_a_gain_bought_with_noise_is_refused(explainer, monkeypatch):
    class Planted(tuning._Trials):
        def values(self, samples, settings):
            lost = settings.get("sigma") == 0.0
            return np.full(len(samples), 1.0 * lost), np.full(len(samples), 0.5 if lost else 1.0)

    monkeypatch.setattr(tuning, "_Trials", Planted)
    assert tune(explainer, samples(explainer)).settings == {}


def test_the_budget_ends_the_search(explainer):
    found = tune(explainer, samples(explainer), budget=0)
    assert not found.complete
    assert found.tried == 1


def test_really_measured_and_the_same_twice(explainer, monkeypatch):
    monkeypatch.setattr(tuning, "CHOICES", {"shrinkage": (0.5, 0.0)})
    every = samples(explainer)
    first, again = tune(explainer, every), tune(explainer, every)
    assert (first.tried, first.best, first.gain) == (2, again.best, again.gain)


def test_the_gate_is_searched_where_there_is_one(explainer, guided_path, monkeypatch):
    """What is found is measured on guided maps; the contrast is never searched."""
    monkeypatch.setattr(tuning, "CHOICES", {})
    monkeypatch.setattr(tuning, "GATE_CHOICES", {"gate_floor": (0.3, 0.9)})
    assert tune(explainer, samples(explainer)).tried == 1
    with Explainer(guided_path, threads=1) as guided:
        every = samples(guided, 20)
        assert tune(guided, every).tried == 2
        trials = tuning._Trials(guided, "insertion_deletion", 0)
        assert (trials.values(every[:2], {"gate_floor": 0.9})[0] != trials.values(every[:2], {})[0]).any()
    assert "contrast" not in {**CHOICES, **GATE_CHOICES}


def test_masks_are_another_measure(explainer, monkeypatch):
    monkeypatch.setattr(tuning, "CHOICES", {"shrinkage": (0.5, 0.0)})
    spec = explainer.spec.input
    region = np.zeros((spec.height, spec.width), np.bool_)
    region[: spec.height // 2] = True
    every = [Sample(s.name, s.image, s.target, s.layer, region) for s in samples(explainer)]
    assert tune(explainer, every, measure="pixel_ap").tried == 2
    with pytest.raises(TooFewPhotosError, match="20 photos or more"):
        tune(explainer, samples(explainer), measure="pixel_ap")  # none has a mask


def test_too_few_photos_say_how_many(explainer):
    with pytest.raises(TooFewPhotosError, match="each half needs 10, so give 20"):
        tune(explainer, samples(explainer, 12))


def test_halves_do_not_hang_on_names_or_order(explainer):
    every = samples(explainer)
    renamed = [Sample("x" + s.name, s.image, s.target, s.layer) for s in reversed(every)]
    assert ["x" + one.name for one in halves(every)[0]] == [one.name for one in halves(renamed)[0]]
