from __future__ import annotations

import pytest
from cfcam.runtime.bench.measure import MEASURES, Measurement, check_plain, measure
from cfcam.runtime.bench.summary import Ratio, Summary
from cfcam.runtime.bench.timed_file import STAGES, TimedFile
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import ModelFileError


@pytest.fixture
def timed(tiny_path, photo):
    with TimedFile(tiny_path("logits"), photo, threads=1) as timed:
        timed.warm_up(2)
        yield timed


def test_every_stage_of_a_real_file(timed):
    found = measure(timed, rounds=6)
    assert set(found.latency) == set(MEASURES)
    assert set(found.stages) == {*STAGES, "other"}
    assert {summary.n for summary in (*found.latency.values(), *found.stages.values())} == {6}
    assert all(summary.min > 0 for name, summary in found.stages.items() if name != "other")
    # The stages and what is beside them are the whole, run by run, so their means add up.
    parts = sum(summary.mean for summary in found.stages.values())
    assert parts == pytest.approx(found.latency["explanation"].mean, rel=1e-6)
    assert found.images_per_second("map") == pytest.approx(1000 / found.latency["map"].mean)
    assert (found.plain, found.ratio, found.control) == (None, None, None)


@pytest.mark.parametrize("variant", ["fixed-batch", "nhwc", "float16", "binary"])
def test_other_files_and_batches(tiny_path, photo, variant):
    with TimedFile(tiny_path(variant), photo, batch=3, threads=1, method="gradcam") as timed:
        timed.warm_up(1)
        found = measure(timed, rounds=2)
    assert found.batch == 3
    assert found.images_per_second("inference") == pytest.approx(3000 / found.latency["inference"].mean)


def test_the_plain_model_must_have_the_same_input(tiny_path):
    with pytest.raises(ModelFileError, match=r"'image' float32 .* alone, found .*cam_target"):
        check_plain(tiny_path("logits"), read_spec(tiny_path("logits")).input)


def _measurement(times, *, load=0.0, control=1.0):
    summary = Summary.of(times)
    ratio = Ratio(control, control, control, summary.n)
    return Measurement(dict.fromkeys(MEASURES, summary), {}, 1, summary, ratio, ratio, 1.0, load, load)


def test_budget_both_ways():
    found = _measurement(range(1, 101))
    assert found.budget(99.02).met
    assert not found.budget(99.0).met
    assert found.budget(99.0, "inference").to_dict() == {
        "of": "inference", "ms": 99.0, "p99": pytest.approx(99.01), "met": False
    }  # fmt: skip
