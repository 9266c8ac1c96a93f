"""A report as rows of words."""

from dataclasses import replace

import pytest
from cfcam.calibration.verify import Failure, verify
from cfcam.calibration.verify.table import COLUMNS, place_rows, place_title, top_rows


@pytest.fixture(scope="module")
def report(tiny_path, photos):
    plain = tiny_path("logits")
    return verify(plain, plain, photos[:3], {"top1": 0.5, "class_sensitivity": 0.8}, pictures=0)


def test_every_row_has_a_cell_for_each_column(report):
    (place,) = report.places
    rows = {row.title: row for row in [*top_rows(report), *place_rows(report, place)]}
    assert {len(row.cells) for row in rows.values()} == {len(COLUMNS)}
    assert not any(row.failed for row in rows.values())
    assert place_title(place).startswith("layer relu (last, ")
    limit = COLUMNS.index("limit")
    assert rows["top-1 agreement"].cells[limit] == ">= 0.5"
    assert rows["class sensitivity"].cells[limit] == "0.8 to 1.25"
    assert rows["Spearman"].cells[:3] == ("1.0000",) * 3


def test_a_missed_limit_marks_its_own_row(report):
    (place,) = report.places
    failure = Failure("moved", "relu", 1.0, 0.0, "")
    strict = replace(report.thresholds, moved_peaks=0.0)
    missed = replace(report, thresholds=strict, failures=(failure, replace(failure, measure="iou", place="fused")))
    assert [row.title for row in place_rows(missed, place) if row.failed] == ["moved peaks"]
