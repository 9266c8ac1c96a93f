from __future__ import annotations

import copy

import pytest
from cfcam.runtime.bench.comparing import ResultError, compare
from cfcam.runtime.bench.document import document
from cfcam.runtime.bench.measure import measure
from cfcam.runtime.bench.timed_file import TimedFile


@pytest.fixture
def result(tiny_path, photo):
    with TimedFile(tiny_path("logits"), photo, threads=1) as timed:
        timed.warm_up(1)
        return document(timed, measure(timed, rounds=2), image_name="half_red.png")


def test_a_result_with_itself(result):
    found = compare(result, result)
    assert found.differences == ()
    assert {row.ratio for row in found.rows} <= {1.0, None}
    assert {(row.name, row.point) for row in found.rows} >= {
        ("explanation", "p99"), ("map", "p50"), ("inference", "max"), ("stage: method", "p50"), ("memory", "high water")
    }  # fmt: skip
    assert found.regressions(1.0) == []


def test_what_was_not_alike_is_named(result):
    other = copy.deepcopy(result)
    other["model"]["sha256"] = "0" * 64
    other["engine"] |= {"threads": None, "backend": "onnxruntime 9"}
    other["what"]["batch"] = 4
    other["machine"] |= {"cpu": "another", "gpus": [{"name": "NVIDIA Orin"}]}
    other["versions"]["numpy"] = "1.0"
    found = compare(result, other)
    assert [what for what, _, _ in found.differences] == [
        "model file", "backend", "threads", "batch", "processor", "GPU", "numpy"
    ]  # fmt: skip
    assert ("threads", "1", "not set") in found.differences
    assert ("GPU", "none", "NVIDIA Orin") in found.differences


def test_two_forms_of_maps_are_named(result):
    """In results of before there is none."""
    other, older = copy.deepcopy(result), copy.deepcopy(result)
    other["what"]["form"] = {"guided": True, "contrast": 0.3, "detail": "early"}
    del older["what"]["form"]
    assert [what for what, _, _ in compare(result, other).differences] == ["the maps' form"]
    assert compare(older, older).differences == ()
    assert [(what, a) for what, a, _ in compare(older, other).differences] == [("the maps' form", "not set")]


def test_a_regression_is_of_median_or_p99_and_above_what_is_allowed(result):
    slower = copy.deepcopy(result)
    slower["latency_ms"]["map"]["p99"] *= 1.2
    slower["latency_ms"]["map"]["max"] *= 5
    slower["stages_ms"]["method"]["p50"] *= 5
    found = compare(result, slower)
    assert [(row.name, row.point) for row in found.regressions(1.1)] == [("map", "p99")]
    assert found.regressions(1.3) == []
    assert compare(slower, result).regressions(1.0) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: [], "not a result of `cfcam bench`"),
        (lambda r: r | {"schema": "cfcam.explain/1"}, "not a result of `cfcam bench`"),
        (lambda r: r | {"schema": "cfcam.bench/2"}, "measure again with this version"),
        (lambda r: {key: value for key, value in r.items() if key != "versions"}, "no section 'versions'"),
        (lambda r: r | {"latency_ms": {"map": {"p50": 1}}}, "latency_ms.map lacks"),
    ],
)
def test_other_documents_are_refused(result, change, words):
    with pytest.raises(ResultError, match=words) as caught:
        compare(result, change(copy.deepcopy(result)), ("good.json", "bad.json"))
    assert str(caught.value).startswith("bad.json: ")
