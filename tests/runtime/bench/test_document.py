"""The JSON document, and what it says times are worth."""

from __future__ import annotations

import dataclasses
import json

import pytest
from cfcam.runtime.bench.document import SCHEMA, document, warnings_of
from cfcam.runtime.bench.measure import MEASURES, Measurement, measure
from cfcam.runtime.bench.summary import Ratio, Summary
from cfcam.runtime.bench.timed_file import TimedFile


@pytest.fixture
def timed(tiny_path, photo):
    with TimedFile(tiny_path("logits"), photo, threads=1) as timed:
        timed.warm_up(2)
        yield timed


def test_the_document_is_complete_json(timed):
    found = measure(timed, rounds=3)
    result = document(timed, found, image_name="half_red.png", budget=found.budget(1e-9))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["schema"] == SCHEMA
    assert result["rounds"] == 3
    assert result["warm_up_rounds"] == 2
    assert result["engine"]["threads"] == 1
    assert result["what"] | {"settings": None} == {
        "method": "cfcam", "settings": None, "layers": ["relu"], "fusion": None,
        "form": {"guided": False, "contrast": 0.0, "detail": None}, "batch": 1, "target": None
    }  # fmt: skip
    assert result["image"] == {"name": "half_red.png", "width": 80, "height": 60}
    assert result["model"]["input"]["shape"] == [1, 3, 32, 48]
    assert result["transfers"].startswith("none")
    assert result["open_ms"] > 0
    assert result["first_ms"] > 0
    assert result["memory"]["high_water"] >= result["memory"]["before_open"]
    assert result["budget"]["met"] is False
    assert any("p99 of 3 runs" in text for text in result["warnings"])


def _measurement(times, *, load=0.0, control=1.0):
    summary = Summary.of(times)
    ratio = Ratio(control, control, control, summary.n)
    return Measurement(dict.fromkeys(MEASURES, summary), {}, 1, summary, ratio, ratio, 1.0, load, load)


def test_warnings_say_what_times_are_worth():
    quiet = [10.0] * 200
    assert warnings_of(_measurement(quiet), 2) == []
    (few,) = warnings_of(_measurement(quiet[:99]), 2)
    assert "99 runs" in few
    (busy,) = warnings_of(_measurement(quiet, load=1.5), 2)
    assert "load 1.5 on 2 cores" in busy
    assert warnings_of(_measurement(quiet, load=1.5), 16) == []
    wide = warnings_of(_measurement([10.0] * 150 + [14.0] * 50), 2)
    assert [text.split(":")[0] for text in wide] == list(MEASURES)
    (rough,) = warnings_of(_measurement(quiet, control=1.05), 2)
    assert "plain / plain is 1.050" in rough
    assert warnings_of(dataclasses.replace(_measurement(quiet), control=None), 2) == []
