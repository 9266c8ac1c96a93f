"""Limits: reading them, and the verdict on a summary."""

from __future__ import annotations

import pytest
from cfcam.calibration.audit.limits import LimitsError, limits_schema, read_limits

pytest.importorskip("pydantic")

_SUMMARY = {
    "findings": {
        "class_blind": {"count": 1, "of": 100, "rate": 0.01, "low": 0.002, "high": 0.054},
        "off_object": {"count": 0, "of": 0, "rate": None, "low": None, "high": None},
    },
    "slices": [
        {"column": "weather", "value": "rain", "finding": "class_blind", "rate": 0.5, "high": 0.9},
        {"column": "weather", "value": "sun", "finding": "class_blind", "rate": 0.0, "high": 0.1},
        {"column": "camera", "value": "left", "finding": "class_blind", "rate": 1.0, "high": 1.0},
    ],
    "counts": {"photos": 200, "errors": 2},
    "latency": {"p99_ms": 80.0, "over_rate": 0.011},
}
_ALL = """
findings: {class_blind: 0.02, off_object: 0.1}
slices:
  weather: {class_blind: 0.2}
p99_ms: 80
over: 0.01
errors: 0.01
"""


@pytest.fixture
def limits(tmp_path):
    def write(text):
        path = tmp_path / "limits.yaml"
        path.write_text(text)
        return read_limits(path)

    return write


def verdict(entries):
    return {entry["name"]: (entry["value"], entry["limit"], entry["met"]) for entry in entries}


def test_every_limit_is_judged(limits):
    assert verdict(limits(_ALL).judge(_SUMMARY)) == {
        "findings.class_blind": (0.01, 0.02, True),
        "findings.off_object": (None, 0.1, False),  # on no photo it could be told: nothing is shown
        "slices.weather=rain.class_blind": (0.5, 0.2, False),
        "slices.weather=sun.class_blind": (0.0, 0.2, True),
        "p99_ms": (80.0, 80, True),
        "over": (0.011, 0.01, False),
        "errors": (0.01, 0.01, True),
    }


def test_the_upper_end_of_the_interval(limits):
    found = verdict(limits("by: upper\n" + _ALL).judge(_SUMMARY))
    assert found["findings.class_blind"] == (0.054, 0.02, False)
    assert found["slices.weather=sun.class_blind"] == (0.1, 0.2, True)


def test_what_was_not_measured_is_not_met(limits):
    empty = limits(_ALL).judge({})
    assert {entry["met"] for entry in empty} == {False}
    assert {entry["value"] for entry in empty} == {None}
    assert "slices.weather.class_blind" in verdict(empty)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("finding: {}", "finding: unknown key, did you mean 'findings'?: expected one of by, findings,"),
        ("findings: {clas_blind: 0.1}", "unknown finding, did you mean 'class_blind'?: expected one of no_map,"),
        ("slices: {weather: {offobject: 0.1}}", "did you mean 'off_object'?"),
        ("findings: {class_blind: 2}", "findings.class_blind: input should be less than or equal to 1, got 2"),
        ("findings: {class_blind: '0.1'}", "findings.class_blind: input should be a valid number, got '0.1'"),
        ("p99_ms: 0", "p99_ms: input should be greater than 0, got 0"),
        ("errors: yes", "errors: input should be a valid number"),
        ("by: mean", "by: input should be 'upper' or 'rate', got 'mean'"),
        ("by: upper", "sets no limit: give at least one"),
        ("", "expected keys and values such as 'p99_ms: 80'"),
        ("- a", "expected keys and values"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(text, words, limits):
    with pytest.raises(LimitsError) as caught:
        limits(text)
    assert "limits.yaml: " in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file(tmp_path):
    with pytest.raises(LimitsError, match="cannot be read"):
        read_limits(tmp_path / "nowhere.yaml")


def test_the_schema_says_what_is_read(limits):
    schema = limits_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == {"by", "findings", "slices", "p99_ms", "over", "errors", "against"}
    assert schema["additionalProperties"] is False
    assert limits("errors: 0").to_dict() == {"by": "rate", "findings": {}, "slices": {}, "errors": 0.0}
