"""Rows and their schema."""

import pytest

pytest.importorskip("pyarrow")

from cfcam.calibration.audit.row import COLUMNS, SCHEMA, UNREPEATED, arrow_schema, empty_row


def test_an_empty_row_has_every_column_and_no_list_that_another_row_shares():
    row, other = empty_row("a.png", "00"), empty_row("b.png", "11")
    assert list(row) == list(COLUMNS)
    assert row["findings"] is not other["findings"]
    assert (row["image"], row["sha256"], row["error"]) == ("a.png", "00", None)


def test_the_schema_names_its_version_and_every_column():
    schema = arrow_schema()
    assert schema.names == list(COLUMNS)
    assert schema.metadata == {b"cfcam.schema": SCHEMA.encode()}
    assert set(UNREPEATED) < set(COLUMNS)
