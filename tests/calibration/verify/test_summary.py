"""Scores over many photos."""

import math

import pytest
from cfcam.calibration.verify.summary import TYPICAL, summarise, weight
from verify_measures import LAST, measures


def test_the_score_is_a_ratio_of_means():
    # On the second photo the two classes share their evidence: a mean of ratios would be -4.5.
    found = summarise(LAST, [measures(0.99, 0.8), measures(0.99, 0.999)])
    assert found.measures["spearman"].score == pytest.approx(1 - 0.02 / 0.201)
    assert found.light == 0
    assert summarise(LAST, [measures(1.0, 0.9)]).measures["iou"].score == 1
    assert summarise(LAST, [measures(0.9, 0.9)]).measures["iou"].score == pytest.approx(0)
    assert summarise(LAST, [measures(0.7, 0.9)]).measures["iou"].score == pytest.approx(-2)


def test_without_a_second_class_the_scale_is_a_typical_one():
    for other, sense in ((None, math.nan), (1.0, 0.0)):  # one class; a method that is blind to it
        found = summarise(LAST, [measures(0.99, other, sensitivity=sense, sensitivity_reference=sense)])
        assert found.typical_scale
        assert found.measures["spearman"].score == pytest.approx(1 - 0.01 / TYPICAL["spearman"])
        assert math.isnan(found.kept)


def test_a_photo_whose_classes_share_a_map_counts_for_less():
    def photo(s: float, apart: float):
        return measures(s, 1 - apart, sensitivity=apart, sensitivity_reference=apart)

    assert [weight(photo(1, apart)) for apart in (0.1, 0.02, 0.01, 0.0)] == pytest.approx([1, 1, 0.5, 0])
    assert weight(measures(1, None, sensitivity_reference=math.nan)) == 1
    # 1 - (1 * 0.01 + 0.25 * 0.01) / (1 * 0.2 + 0.25 * 0.005); without weights it would be .902.
    found = summarise(LAST, [photo(0.99, 0.2), photo(0.99, 0.005)])
    assert found.measures["spearman"].score == pytest.approx(1 - 0.0125 / 0.20125)
    assert found.light == 1
    # Where all are alike, weights change nothing.
    assert summarise(LAST, [photo(0.999, 0.01)] * 3).measures["iou"].score == pytest.approx(0.9)
