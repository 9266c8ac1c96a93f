"""Which limits are missed, which are undecided, and by what."""

import dataclasses
import math

import numpy as np
import pytest
from cfcam.calibration.verify import Thresholds
from cfcam.calibration.verify.likeness import Likeness
from cfcam.calibration.verify.summary import summarise
from cfcam.calibration.verify.verdict import judge, moved_limit
from verify_measures import LAST, measures

OFF = dict.fromkeys((field.name for field in dataclasses.fields(Thresholds)), None)


def test_photos_without_a_map_in_the_reference_are_left_out():
    nothing = Likeness(*[math.nan] * 5)
    left_out = measures(candidate=nothing, jitter=nothing, other=nothing, noise=nothing, empty_reference="no gradient")
    lost = measures(candidate=Likeness(0, 0, 0, 1, 1), empty="zero")
    found = summarise(LAST, [measures(1.0), left_out, lost])
    assert (found.count, found.lost, found.gained) == (2, 1, 1)
    assert found.measures["spearman"].candidate == 0.5
    assert {one.measure for one in judge([found], 3, 3, 0, Thresholds()).failures} >= {"empty_maps"}
    none = summarise(LAST, [left_out])
    assert none.count == 0
    for thresholds in (Thresholds(), Thresholds(**OFF)):
        (nothing_judged,) = judge([none], 1, 1, 0, thresholds, identical=True).failures
        assert (nothing_judged.measure, nothing_judged.value, nothing_judged.limit) == ("reference_maps", 0, 1)
        assert nothing_judged.text.startswith("layer last: the reference has no map on any photo, nothing could be")


def _moved(candidate: int, jitter: int, count: int = 100):
    """A place where the peak moved on so many photos in the candidate, and on as many others under jitter."""

    def like(moved: bool) -> Likeness:
        return Likeness(1.0, 1.0, 1.0, 0.0, float(moved))

    photos = [measures(1.0, candidate=like(i < candidate), jitter=like(i >= count - jitter)) for i in range(count)]
    return summarise(LAST, photos)


def test_as_many_peaks_may_move_as_under_jitter():
    limits = Thresholds(**{**OFF, "moved_peaks": 0.1})

    def outcome(candidate: int, jitter: int, count: int = 100) -> str:
        return judge([_moved(candidate, jitter, count)], 1, 1, 0, limits).outcome

    assert outcome(4, 0) == "passed", "shown to be within the limit"
    assert outcome(12, 30) == "passed", "beyond the limit, and fewer than under jitter"
    assert outcome(9, 9) == "undecided"
    assert outcome(30, 25) == "undecided", "beyond the limit, but perhaps not beyond the jitter"
    assert outcome(0, 0, count=10) == "undecided"
    (both,) = judge([_moved(40, jitter=10)], 1, 1, 0, limits).failures
    assert (both.measure, both.value, both.limit) == ("moved", 0.4, 0.1)
    assert both.text == "layer last: the peak moved on 40.0% of 100 photos, more than 10%"
    (more,) = judge([_moved(60, jitter=20)], 1, 1, 0, limits).failures
    assert more.text.endswith("more than 20.0% (as under jitter)")
    assert str(moved_limit(_moved(0, jitter=1), limits)) == "10%", "a tie is the threshold's"
    assert moved_limit(_moved(9, jitter=3), Thresholds(moved_peaks=None)) is None
    none = Thresholds(**{**OFF, "moved_peaks": 0.0})
    assert judge([_moved(1, 0)], 1, 1, 0, none).outcome == "failed"
    assert judge([_moved(0, 0, count=3)], 1, 1, 0, none).outcome == "passed"


@pytest.mark.parametrize(
    ("changed", "measure"),
    [
        (measures(0.98, 0.9), "spearman"),
        (measures(1.0, candidate=Likeness(1, 1, 0.95, 0, 0)), "iou"),
        (measures(1.0, candidate=Likeness(1, 1, 1, 0.4, 1)), "moved"),
        (measures(1.0, sensitivity=0.0), "class_sensitivity"),
        (measures(1.0, sensitivity=0.2), "class_sensitivity"),
    ],
)
def test_each_limit_is_missed_by_its_own_name(changed, measure):
    found = [summarise(LAST, [changed] * 60)]
    failures = judge(found, 60, 60, 0, Thresholds()).failures
    assert measure in {one.measure for one in failures}
    assert all(one.place == "last" and one.text.startswith("layer last: ") for one in failures)
    assert judge(found, 60, 60, 0, Thresholds(**OFF)).outcome == "passed"


def test_the_network_itself_is_judged():
    limits = Thresholds(**{**OFF, "top1": 0.98})
    assert judge([], 200, 200, 0, limits).outcome == "passed"
    (open_,) = judge([], 97, 100, 0, limits).undecided
    assert open_.text.startswith("top-1 agreement 0.970 (97 of 100 photos), limit 0.98: about ")
    assert open_.needed is not None
    assert 300 < open_.needed < 1000
    (changed,) = judge([], 92, 100, 0, limits).failures
    assert changed.text == "top-1 agreement 0.920 (92 of 100 photos), below 0.98"
    (broken,) = judge([], 99, 99, 1, limits).failures
    assert broken.text == "the candidate could not explain 1 of 100 photos"


def test_few_photos_decide_nothing_and_equal_files_need_few():
    fine = [summarise(LAST, [measures(1.0)] * 11)]
    verdict = judge(fine, 11, 11, 0, Thresholds.for_precision("int8"))
    assert verdict.outcome == "undecided"
    assert {one.measure for one in verdict.undecided} >= {"top1", "spearman", "moved"}
    assert verdict.photos_needed is not None
    assert verdict.photos_needed <= 100
    assert judge(fine, 11, 11, 0, Thresholds(), identical=True).outcome == "passed"


def test_with_many_photos_a_good_candidate_passes_each_precision():
    for precision in ("float32", "float16", "int8"):
        found = [summarise(LAST, [measures(1.0)] * 400)]
        assert judge(found, 400, 400, 0, Thresholds.for_precision(precision), risk=0.04).outcome == "passed"


def test_one_sample_never_passes_what_another_fails():
    """A score of .95 where .93 is the limit, on photos that differ much: 17 of them once passed, 11 others failed."""
    rng = np.random.default_rng(5)
    outcomes = set()
    for _ in range(200):
        count = int(rng.integers(11, 18))
        photos = []
        for _ in range(count):
            other = 1 - min(1, 0.02 + rng.gamma(0.8, 0.3))
            photos.append(
                measures(
                    1 - min(0.5, rng.lognormal(-5, 1.2)), other, sensitivity_reference=1 - other, sensitivity=1 - other
                )
            )
        limits = Thresholds(**{**OFF, "last_score": 0.93})
        outcomes.add(judge([summarise(LAST, photos)], count, count, 0, limits).outcome)
    assert outcomes == {"undecided"}
