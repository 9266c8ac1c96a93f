"""`verify` on real files: what passes, and what must not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import spoilt_files
from cfcam.calibration.verify import Thresholds, verify
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.explainer import Explainer
from cfcam.runtime.photos.images import open_image
from cfcam.runtime.photos.preprocess import prepare
from cfcam.runtime.targets import TOP_CLASS


def _missed(report, place=None):
    """Names of the measures that fell short, in one layer or anywhere."""
    return {one.measure for one in report.failures if place is None or one.place == place}


def _score(report, place=0):
    """Spearman's."""
    score = report.places[place].measures["spearman"].score
    assert score is not None
    return score


def _tensors(path, photos):
    return [prepare(open_image(one), read_spec(path).input).tensor for one in photos]


def test_a_file_equals_itself_in_every_layer(mobilenet, photos):
    told = []
    report = verify(
        mobilenet, mobilenet, photos[:5], batch=2, threads=1, progress=lambda done, of: told.append((done, of))
    )
    assert report
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert [(one.place.name, one.place.role, one.count) for one in report.places] == [
        ("t83", "last", 5),
        ("t75", "middle", 5),
        ("fused", "fused", 5),
    ]
    for one in report.places:
        assert [one.measures[name].score for name in ("spearman", "pearson", "iou")] == [1.0, 1.0, 1.0]
        assert one.measures["spearman"].worst == 1.0
        assert one.measures["peak_distance"].candidate == one.measures["moved"].candidate == 0
        assert one.kept == 1.0
        # The reference points lie where they must: a jittered photo above another class, and that above noise.
        spearman = one.measures["spearman"]
        assert 1 > spearman.jitter > spearman.other > spearman.noise
    assert [one.clusters for one in report.places[:2]] == [1.0, 1.0]
    assert (report.logits_max, report.logits_mean) == (0, 0)
    assert report.jitter_max > report.jitter_mean > 0
    assert report.top1.share == 1
    assert report.top1.low == pytest.approx(0.5655, abs=1e-4)  # Wilson, 5 of 5
    assert report.cases == (), "there is nothing to draw"
    # One layer of the two judged alone, and the seed decides everything else.
    alone = verify(mobilenet, mobilenet, photos[:5], layer="t75", pictures=0)
    assert len(alone.places) == 1
    assert alone.places[0].measures["spearman"].jitter == pytest.approx(report.places[1].measures["spearman"].jitter)


def test_frozen_gradients_are_caught_in_every_layer(mobilenet, photos, tmp_path):
    with Explainer(mobilenet, threads=1) as explainer:
        raw = explainer.tensors([photos[0]], TOP_CLASS)
    frozen = spoilt_files.freeze_gradients(mobilenet, tmp_path / "f.cam.onnx", [one.gradients for one in raw.layers])
    report = verify(frozen, mobilenet, photos[1:9], pictures=2)
    assert not report
    assert report.top1.share == 1, "no label shows it"
    assert report.logits_max == 0
    for one in report.places:
        assert one.kept == 0, "both classes have one map"
        assert {"class_sensitivity", "spearman", "iou"} <= _missed(report, one.place.name)
    assert len(report.cases) == 6
    assert {len(one.images) for one in report.cases} == {4}
    assert report.cases[0].likeness.spearman == report.places[0].measures["spearman"].worst
    # Each layer is judged by itself: the last one is as it was, and only what hangs on the other one falls short.
    only = spoilt_files.freeze_gradients(mobilenet, tmp_path / "o.cam.onnx", [None, raw.layers[1].gradients])
    report = verify(only, mobilenet, photos[1:4], pictures=1)
    assert _score(report) == 1
    assert {one.place for one in report.failures} == {"t75", "fused"}
    assert [one.place for one in report.cases] == ["t75", "fused"], "drawn is what fell short"


def test_the_gradient_of_another_class_is_caught(mobilenet, photos, tmp_path):
    wrong = spoilt_files.other_class(mobilenet, tmp_path / "w.cam.onnx")
    report = verify(wrong, mobilenet, photos[:5], pictures=0)
    assert report.top1.share == 1
    for number, one in enumerate(report.places):
        assert "spearman" in _missed(report, one.place.name)
        assert _score(report, number) < 0.5, "as far off as another class's map"


def test_a_broken_calibration_is_caught_and_a_good_one_is_not(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    good = spoilt_files.quantise(plain, tmp_path / "good.cam.onnx", _tensors(plain, photos))
    passed = verify(good, plain, photos, pictures=0)
    assert passed.verdict == "undecided", [one.text for one in passed.failures]
    assert passed.photos_needed is not None
    assert 50 < passed.photos_needed < 500
    assert passed.verdict_text == f"UNDECIDED: 9 photos, about {passed.photos_needed} would decide"
    assert passed.thresholds == Thresholds.for_precision("int8")
    assert 0.95 < _score(passed) < 1
    grey = [np.full_like(_tensors(plain, photos[:1])[0], level) for level in (0.1, 0.3, 0.5)]
    broken = spoilt_files.quantise(plain, tmp_path / "broken.cam.onnx", grey)
    report = verify(broken, plain, photos, pictures=0)
    assert {"top1", "spearman", "pearson", "moved"} <= _missed(report)


def test_the_wrong_order_of_colours_is_caught(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    spec = read_spec(plain)
    wrong = spoilt_files.with_spec(plain, tmp_path / "bgr.cam.onnx", input=dataclasses.replace(spec.input, color="bgr"))
    report = verify(wrong, plain, photos, pictures=0)
    assert not report
    assert {"top1", "spearman"} <= _missed(report)
    assert any(one.label != one.predicted_label for one in report.photos)


@pytest.mark.parametrize("variant", ["nhwc", "float16", "fixed-batch", "softmax-and-logits"])
def test_another_form_of_the_same_network_misses_nothing(tiny_path, photos, variant):
    report = verify(tiny_path(variant), tiny_path("logits"), photos, pictures=0)
    assert not report.failures, [one.text for one in report.failures]
    assert _score(report) > 0.9999
