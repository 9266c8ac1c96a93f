"""The page of what works has a row for each that the command runs, and a row that does something else is found out."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime.quantization")

import what_works
from what_works_rows import ROWS

PAGE = Path(__file__).parents[1] / "docs" / "what-works.md"
BY_NAME = {row.what: row for row in ROWS}


def test_the_page_has_every_row_as_it_is_expected():
    cells = dict(line[2:-2].split(" | ", 1) for line in PAGE.read_text().splitlines() if line.startswith("| "))
    assert set(BY_NAME) == set(cells) - {"what"}
    for row in ROWS:
        works = f", {row.grid[0]}x{row.grid[1]}; scores: {row.score}"
        assert cells[row.what].startswith("refused: " if row.refused else "works: "), row.what
        assert (row.refused or works) in cells[row.what], row.what


@pytest.mark.parametrize("what", ["softmax in percent", "classes by images: (classes, N)"])
def test_rows_are_run(what):
    cell, fault = what_works._tried(BY_NAME[what])
    assert fault is None
    assert f"| {what} | {cell} |" in PAGE.read_text().splitlines()


def test_a_row_that_does_something_else_is_found_out(monkeypatch):
    row = BY_NAME["softmax in percent"]
    assert "expected" in str(what_works._tried(replace(row, score="sigmoid"))[1])
    assert what_works._tried(replace(row, refused="never"))[1] == "was expected to be refused"
    assert what_works._tried(replace(BY_NAME["classes by images: (classes, N)"], refused=""))[1]
    monkeypatch.setattr(what_works, "_probability", lambda *_: 0.123)
    assert "NumPy says 0.1230" in str(what_works._tried(row)[1])
