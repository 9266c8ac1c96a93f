"""docs/operators.md says what is covered: neither more nor less than there is."""

from __future__ import annotations

import re
from pathlib import Path

import onnx.defs
from cfcam.export.reverse import supported_operators
from cfcam.export.reverse.path import refusal
from onnx import helper

PAGE = Path(__file__).parents[3] / "docs" / "operators.md"


def _first_columns() -> tuple[list[str], list[str]]:
    """(operators of the tables of what is covered, those of the last table, which is of what is refused)."""
    covered, _, refused = PAGE.read_text(encoding="utf-8").partition("## Refused altogether")
    found = []
    for part in (covered, refused):
        cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
        found.append([name for cell in cells for name in re.findall(r"`([^`]+)`", cell)])
    return found[0], found[1]


def test_table_of_operators_is_complete_and_true() -> None:
    covered, refused = _first_columns()
    assert len(covered) == len(set(covered))
    assert set(covered) == set(supported_operators())
    assert not set(covered) & set(refused)


def test_what_is_listed_as_refused_is_refused() -> None:
    known = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    _, refused = _first_columns()
    standard = [name for name in refused if name in known]
    assert len(standard) >= 20
    for name in standard:
        assert refusal(helper.make_node(name, ["x"], ["y"], name="n")) is not None, name
