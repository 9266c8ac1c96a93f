"""Peaks, likeness, reference points, scores and thresholds, on arrays."""

import dataclasses
import math

import numpy as np
import pytest
from cfcam.calibration.verify import GateError, Thresholds
from cfcam.calibration.verify.comparing import PlaceFigures
from cfcam.calibration.verify.heat import Heat
from cfcam.calibration.verify.likeness import Likeness, compare_maps, grouping_agreement, sensitivity
from cfcam.calibration.verify.references import jittered, noise_map
from cfcam.calibration.verify.sides import Place
from cfcam.calibration.verify.summary import TYPICAL, summarise
from cfcam.calibration.verify.verdict import judge, moved_limit
from cfcam.runtime.cam import normalise
from cfcam.runtime.contract.spec import InputSpec
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import Grouping

_SIZE = (70, 70)


def _spots(*spots, grid=(7, 7)) -> Heat:
    """A map with (row, column, height) cells, scaled up as a layer's map is."""
    cells = np.zeros(grid, np.float32)
    for row, column, height in spots:
        cells[row, column] = height
    return Heat(normalise(cells, _SIZE))


def test_a_peak_is_a_region_and_not_a_pixel():
    one = _spots((1, 1, 1.0))
    assert one.peak is not None
    assert one.peak.centre == pytest.approx((14.5, 14.5), abs=0.6)
    plateau = _spots((1, 1, 1.0), (1, 2, 1.0))
    assert plateau.peak is not None
    assert plateau.peak.centre == pytest.approx((14.5, 19.5), abs=0.6)
    # The last bit decides which cell of a plateau is the higher one; the peak does not jump.
    tipped = _spots((1, 1, 0.999999), (1, 2, 1.0))
    found = compare_maps(plateau, tipped)
    assert found.peak_distance < 1e-3
    assert found.moved == 0


def test_moved_means_another_place_that_the_other_map_does_not_show():
    left, right = (1, 1), (1, 5)
    base = _spots((*left, 1.0), (*right, 0.5))
    assert compare_maps(base, _spots((*left, 0.5), (*right, 1.0))).moved == 1
    tie = _spots((*left, 1.0), (*right, 0.97))
    assert compare_maps(tie, _spots((*left, 0.97), (*right, 1.0))).moved == 0, "both maps show both places"
    assert compare_maps(tie, _spots((*left, 0.3), (*right, 1.0))).moved == 1, "one place is gone"
    neighbour = compare_maps(_spots((3, 3, 1.0)), _spots((4, 4, 1.0)))
    assert neighbour.moved == 0, "a diagonal neighbour of a 7 x 7 grid"
    assert neighbour.peak_distance == pytest.approx(1 / 7, abs=0.01)
    assert compare_maps(_spots((3, 3, 1.0)), _spots((3, 5, 1.0))).moved == 1


def test_equal_maps_are_exactly_1_and_lost_ones_0():
    heat = Heat(np.random.default_rng(0).random((31, 17), np.float32))
    assert compare_maps(heat, Heat(heat.values.copy())) == Likeness(1.0, 1.0, 1.0, 0.0, 0.0)
    empty = Heat(np.zeros((31, 17), np.float32))
    assert compare_maps(heat, empty) == Likeness(0.0, 0.0, 0.0, 1.0, 1.0)
    assert all(math.isnan(value) for value in dataclasses.astuple(compare_maps(empty, heat)))
    flat = compare_maps(heat, Heat(np.ones((31, 17), np.float32)))
    assert (flat.spearman, flat.pearson) == (0.0, 0.0), "a constant map explains nothing"
    assert sensitivity(heat, heat) == 0
    assert math.isnan(sensitivity(heat, empty))


def test_the_top_fifth_takes_no_zeros():
    values = np.zeros((10, 10), np.float32)
    values[0, :5] = 1
    assert Heat(values).top.sum() == 5
    assert Heat(np.arange(100, dtype=np.float32).reshape(10, 10)).top.sum() == 20
    shifted = np.roll(values, 1, axis=1)
    assert compare_maps(Heat(values), Heat(shifted)).iou == 4 / 6


def test_groups_are_compared_without_channels_that_are_dead_on_both_sides():
    dead = Grouping.DEAD
    first = np.array([0, 0, 1, 1, *[dead] * 50])
    assert grouping_agreement(first, np.array([5, 5, 2, 2, *[dead] * 50])) == 1
    mixed = grouping_agreement(first, np.array([0, 1, 0, 1, *[dead] * 50]))
    assert mixed < 0.1, "fifty dead channels would lift it to nearly 1"
    assert math.isnan(grouping_agreement(first[4:], first[4:]))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_jitter_is_one_grey_level_of_each_channel(layout):
    spec = InputSpec(
        name="x", layout=layout, height=8, width=6, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4)
    )
    zero = np.zeros(spec.shape(1)[1:], np.float32)
    noise = jittered(zero, spec, 3)
    assert noise.dtype == np.float32
    channel = 0 if layout == "NCHW" else -1
    levels = np.moveaxis(noise, channel, 0) * np.array(spec.std).reshape(3, 1, 1) * 255
    assert set(np.rint(levels).ravel()) == {-1, 0, 1}
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-5)
    np.testing.assert_array_equal(noise, jittered(zero, spec, 3))
    assert (noise != jittered(zero, spec, 4)).any()
    heat = noise_map((7, 7), (40, 30), 3)
    assert (heat.shape, heat.max()) == ((40, 30), 1)
    np.testing.assert_array_equal(heat, noise_map((7, 7), (40, 30), 3))


def _figures(s: float = 0.99, second: float | None = 0.9, **changes) -> PlaceFigures:
    def like(value: float) -> Likeness:
        return Likeness(value, value, value, 0.0, 0.0)

    made = PlaceFigures(
        candidate=like(s),
        jitter=like(0.999),
        other=None if second is None else like(second),
        noise=like(0.0),
        clusters=1.0,
        clusters_jitter=1.0,
        sensitivity=0.1,
        sensitivity_reference=0.1,
        empty=None,
        empty_reference=None,
    )
    return dataclasses.replace(made, **changes)


_LAST = Place("last", "last", (7, 7))


def test_the_score_is_a_ratio_of_means():
    # On the second photo the two classes share their evidence: a mean of ratios would be -4.5.
    found = summarise(_LAST, [_figures(0.99, 0.8), _figures(0.99, 0.999)])
    assert found.measures["spearman"].score == pytest.approx(1 - 0.02 / 0.201)
    assert summarise(_LAST, [_figures(1.0, 0.9)]).measures["iou"].score == 1
    assert summarise(_LAST, [_figures(0.9, 0.9)]).measures["iou"].score == pytest.approx(0)
    assert summarise(_LAST, [_figures(0.7, 0.9)]).measures["iou"].score == pytest.approx(-2)


def test_without_a_second_class_the_scale_is_a_typical_one():
    for other, sense in ((None, math.nan), (1.0, 0.0)):  # one class; a method that is blind to it
        found = summarise(_LAST, [_figures(0.99, other, sensitivity=sense, sensitivity_reference=sense)])
        assert found.typical_scale
        assert found.measures["spearman"].score == pytest.approx(1 - 0.01 / TYPICAL["spearman"])
        assert math.isnan(found.kept)


def test_photos_without_a_map_in_the_reference_are_left_out():
    nothing = Likeness(*[math.nan] * 5)
    left_out = _figures(candidate=nothing, jitter=nothing, other=nothing, noise=nothing, empty_reference="no gradient")
    lost = _figures(candidate=Likeness(0, 0, 0, 1, 1), empty="zero")
    found = summarise(_LAST, [_figures(1.0), left_out, lost])
    assert (found.count, found.lost, found.gained) == (2, 1, 1)
    assert found.measures["spearman"].candidate == 0.5
    assert {one.measure for one in judge([found], 3, 3, 0, Thresholds())} >= {"empty_maps", "spearman"}
    none = summarise(_LAST, [left_out])
    assert none.count == 0
    off = dict.fromkeys((field.name for field in dataclasses.fields(Thresholds)), None)
    for thresholds in (Thresholds(), Thresholds(**off)):
        (nothing_judged,) = judge([none], 1, 1, 0, thresholds)
        assert (nothing_judged.measure, nothing_judged.value, nothing_judged.limit) == ("reference_maps", 0, 1)
        assert nothing_judged.text.startswith("layer last: the reference has no map on any photo, nothing could be")


def _moved(candidate: int, jitter: int, count: int = 10):
    """A place where the peak moved on so many photos in the candidate, and under jitter."""

    def like(moved: bool) -> Likeness:
        return Likeness(1.0, 1.0, 1.0, 0.0, float(moved))

    photos = [_figures(1.0, candidate=like(i < candidate), jitter=like(i < jitter)) for i in range(count)]
    return summarise(_LAST, photos)


def test_as_many_peaks_may_move_as_under_jitter():
    limits = Thresholds(moved_peaks=0.1)
    assert judge([_moved(2, jitter=3)], 10, 10, 0, limits) == (), "beyond the limit, within the jitter"
    assert judge([_moved(1, jitter=0)], 10, 10, 0, limits) == (), "beyond the jitter, within the limit"
    (both,) = judge([_moved(4, jitter=3)], 10, 10, 0, limits)
    assert (both.measure, both.value, both.limit) == ("moved", 0.4, 0.3)
    assert both.text == "layer last: the peak moved on 40.0% of 10 photos, more than 30.0% (as under jitter)"
    (own,) = judge([_moved(2, jitter=1)], 10, 10, 0, limits)
    assert own.text.endswith("moved on 20.0% of 10 photos, more than 10%")
    assert str(moved_limit(_moved(0, jitter=1), limits)) == "10%", "a tie is the threshold's"
    assert moved_limit(_moved(9, jitter=3), Thresholds(moved_peaks=None)) is None


@pytest.mark.parametrize(
    ("figures", "measure"),
    [
        (_figures(0.98, 0.9), "spearman"),
        (_figures(1.0, candidate=Likeness(1, 1, 0.98, 0, 0)), "iou"),
        (_figures(1.0, candidate=Likeness(1, 1, 1, 0.4, 1)), "moved"),
        (_figures(1.0, sensitivity=0.0), "class_sensitivity"),
        (_figures(1.0, sensitivity=0.2), "class_sensitivity"),
    ],
)
def test_each_limit_is_missed_by_its_own_name(figures, measure):
    failures = judge([summarise(_LAST, [figures])], 1, 1, 0, Thresholds())
    assert measure in {one.measure for one in failures}
    assert all(one.place == "last" and one.text.startswith("layer last: ") for one in failures)
    off = dict.fromkeys((field.name for field in dataclasses.fields(Thresholds)), None)
    assert judge([summarise(_LAST, [figures])], 1, 1, 0, Thresholds(**off)) == ()


def test_the_network_itself_is_judged():
    fine = [summarise(_LAST, [_figures(1.0)])]
    assert judge(fine, 100, 100, 0, Thresholds()) == ()
    (changed,) = judge(fine, 97, 100, 0, Thresholds())
    assert changed.text == "top-1 agreement 0.970 (97 of 100 photos), below 0.98"
    (broken,) = judge(fine, 99, 99, 1, Thresholds())
    assert broken.text == "the candidate could not explain 1 of 100 photos"


def test_thresholds_from_a_configuration():
    assert Thresholds.for_precision("int8").last_score == 0.93
    assert Thresholds.for_precision("float16") == Thresholds() == Thresholds.for_precision("something else")
    found = Thresholds.from_mapping({"middle_score": 0.6, "top1": None}, "int8")
    assert (found.last_score, found.middle_score, found.top1) == (0.93, 0.6, None)
    with pytest.raises(GateError, match="there is no 'midle_score'; did you mean 'middle_score'"):
        Thresholds.from_mapping({"midle_score": 1})
    for name, value in (("last_score", 1.1), ("moved_peaks", -0.1), ("class_sensitivity", 0), ("top1", "high")):
        with pytest.raises(MethodError, match=f"thresholds: {name}: expected a number"):
            Thresholds.from_mapping({name: value})
