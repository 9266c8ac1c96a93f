"""Which limits are missed, and by what."""

import dataclasses
import math

import pytest
from cfcam.calibration.verify import Thresholds
from cfcam.calibration.verify.likeness import Likeness
from cfcam.calibration.verify.summary import summarise
from cfcam.calibration.verify.verdict import missed_limits, moved_limit
from verify_measures import LAST, measures


def test_photos_without_a_map_in_the_reference_are_left_out():
    nothing = Likeness(*[math.nan] * 5)
    left_out = measures(candidate=nothing, jitter=nothing, other=nothing, noise=nothing, empty_reference="no gradient")
    lost = measures(candidate=Likeness(0, 0, 0, 1, 1), empty="zero")
    found = summarise(LAST, [measures(1.0), left_out, lost])
    assert (found.count, found.lost, found.gained) == (2, 1, 1)
    assert found.measures["spearman"].candidate == 0.5
    assert {one.measure for one in missed_limits([found], 3, 3, 0, Thresholds())} >= {"empty_maps", "spearman"}
    none = summarise(LAST, [left_out])
    assert none.count == 0
    off = dict.fromkeys((field.name for field in dataclasses.fields(Thresholds)), None)
    for thresholds in (Thresholds(), Thresholds(**off)):
        (nothing_judged,) = missed_limits([none], 1, 1, 0, thresholds)
        assert (nothing_judged.measure, nothing_judged.value, nothing_judged.limit) == ("reference_maps", 0, 1)
        assert nothing_judged.text.startswith("layer last: the reference has no map on any photo, nothing could be")


def _moved(candidate: int, jitter: int, count: int = 10):
    """A place where the peak moved on so many photos in the candidate, and under jitter."""

    def like(moved: bool) -> Likeness:
        return Likeness(1.0, 1.0, 1.0, 0.0, float(moved))

    photos = [measures(1.0, candidate=like(i < candidate), jitter=like(i < jitter)) for i in range(count)]
    return summarise(LAST, photos)


def test_as_many_peaks_may_move_as_under_jitter():
    limits = Thresholds(moved_peaks=0.1)
    assert missed_limits([_moved(2, jitter=3)], 10, 10, 0, limits) == (), "beyond the limit, within the jitter"
    assert missed_limits([_moved(1, jitter=0)], 10, 10, 0, limits) == (), "beyond the jitter, within the limit"
    (both,) = missed_limits([_moved(4, jitter=3)], 10, 10, 0, limits)
    assert (both.measure, both.value, both.limit) == ("moved", 0.4, 0.3)
    assert both.text == "layer last: the peak moved on 40.0% of 10 photos, more than 30.0% (as under jitter)"
    (own,) = missed_limits([_moved(2, jitter=1)], 10, 10, 0, limits)
    assert own.text.endswith("moved on 20.0% of 10 photos, more than 10%")
    assert str(moved_limit(_moved(0, jitter=1), limits)) == "10%", "a tie is the threshold's"
    assert moved_limit(_moved(9, jitter=3), Thresholds(moved_peaks=None)) is None


@pytest.mark.parametrize(
    ("changed", "measure"),
    [
        (measures(0.98, 0.9), "spearman"),
        (measures(1.0, candidate=Likeness(1, 1, 0.98, 0, 0)), "iou"),
        (measures(1.0, candidate=Likeness(1, 1, 1, 0.4, 1)), "moved"),
        (measures(1.0, sensitivity=0.0), "class_sensitivity"),
        (measures(1.0, sensitivity=0.2), "class_sensitivity"),
    ],
)
def test_each_limit_is_missed_by_its_own_name(changed, measure):
    failures = missed_limits([summarise(LAST, [changed])], 1, 1, 0, Thresholds())
    assert measure in {one.measure for one in failures}
    assert all(one.place == "last" and one.text.startswith("layer last: ") for one in failures)
    off = dict.fromkeys((field.name for field in dataclasses.fields(Thresholds)), None)
    assert missed_limits([summarise(LAST, [changed])], 1, 1, 0, Thresholds(**off)) == ()


def test_the_network_itself_is_judged():
    fine = [summarise(LAST, [measures(1.0)])]
    assert missed_limits(fine, 100, 100, 0, Thresholds()) == ()
    (changed,) = missed_limits(fine, 97, 100, 0, Thresholds())
    assert changed.text == "top-1 agreement 0.970 (97 of 100 photos), below 0.98"
    (broken,) = missed_limits(fine, 99, 99, 1, Thresholds())
    assert broken.text == "the candidate could not explain 1 of 100 photos"
