"""Every finding, with a row that has it and a control that has not."""

from pathlib import Path

import pytest
from cfcam.calibration.audit.findings import FINDINGS, find, markdown_table, rates
from cfcam.calibration.audit.row import empty_row

#: A photo with which nothing is wrong.
GOOD = {
    "target": 3,
    "annotated": 3,
    "empty": False,
    "margin": 0.8,
    "energy_inside": 0.7,
    "box_share": 0.3,
    "without_object": 0.1,
    "class_sensitivity": 0.6,
    "noise_agreement": 0.95,
    "drop_without": 0.4,
    "keep_only": 0.6,
    "outlier": 1.0,
}


def row(**changes):
    return empty_row("a.png", "00") | GOOD | changes


@pytest.mark.parametrize(
    ("name", "changes", "control"),
    [
        ("no_map", {"empty": True}, {}),
        ("off_object", {"energy_inside": 0.14}, {"energy_inside": 0.3}),  # the control is an even map
        ("background", {"without_object": 0.6}, {"without_object": 0.0}),
        ("class_blind", {"class_sensitivity": 0.0}, {"class_sensitivity": 0.02}),
        ("unstable", {"noise_agreement": 0.2}, {"noise_agreement": 1.0}),
        ("map_does_not_matter", {"drop_without": 0.01, "keep_only": 0.1}, {"drop_without": 0.9, "keep_only": 0.1}),
        ("outlier", {"outlier": 6.0}, {"outlier": 4.9}),
        ("undecided", {"margin": 0.05}, {"margin": 0.2}),
    ],
)
def test_a_finding_is_made_and_its_control_is_not(name, changes, control):
    assert find(row()) == []
    assert find(row(**changes)) == [name]
    assert name not in find(row(**control))


def test_the_object_counts_only_where_its_class_is_the_predicted_one():
    off = {"energy_inside": 0.0, "without_object": 1.0}
    assert find(row(**off)) == ["off_object", "background"]
    assert find(row(**off, annotated=4)) == []
    assert find(row(**off, annotated=None)) == ["off_object", "background"]
    assert find(row(**off, box_share=0.95)) == []


def test_a_map_that_is_enough_alone_matters_although_removing_it_changes_nothing():
    assert find(row(drop_without=0.0, keep_only=0.9)) == []


def test_a_photo_with_an_error_has_no_findings():
    assert find(row(empty=True, error="cannot be read")) == []


def test_rates_count_only_what_can_be_told_and_have_wilson_intervals():
    rows = [row(margin=0.0)] * 3 + [row()] * 7 + [row(margin=None)] * 5 + [row(margin=0.0, error="x")]
    rows = [one | {"sha256": str(i)} for i, one in enumerate(rows)]
    rows += rows[:1] * 20  # copies of a photo are no further evidence
    found = rates(rows)["undecided"]
    assert (found["count"], found["of"], found["rate"]) == (3, 10, 0.3)
    # By Wilson's formula, with z = 1.959964.
    z, n, p = 1.959964, 10, 0.3
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert found["low"] == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
    assert found["high"] == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)
    assert rates([row(outlier=None)])["outlier"] == {"count": 0, "of": 0, "rate": None, "low": None, "high": None}


def test_the_table_has_a_line_for_every_finding():
    lines = markdown_table().splitlines()
    assert len(lines) == len(FINDINGS) + 2
    assert all(f"`{one.name}`" in line for one, line in zip(FINDINGS, lines[2:], strict=True))
    assert markdown_table() in (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
