"""What commands hand out: results to stdout, all else to stderr, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import sys

import pytest
from cfcam.cli.console import (
    Bold,
    file_size,
    json_text,
    note,
    print_json,
    print_rows,
    progress,
    quiet_stdout,
    say,
)


def test_results_and_remarks_go_their_own_ways(capsys: pytest.CaptureFixture[str]) -> None:
    say("a result")
    note("a remark")
    print_json({"a": 1})
    out, err = capsys.readouterr()
    assert (out, err) == ('a result\n{\n  "a": 1\n}\n', "a remark\n")


def test_a_line_is_cleaned_and_keeps_empty_lines_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    say("\nname\x1b[2J\n")
    say()
    note("one\ntwo\x07")
    out, err = capsys.readouterr()
    assert out == "\nname\\x1b[2J\n\n\n"
    assert err == "one two\\x07\n"


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("first", "1.5"), (Bold("second"), "10"), ("  inside", ""), ("long " * 60,)]
    print_rows(("name", "value"), rows, title="what it is", right=("value",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "what it is"
    width = len(lines[2]) - len("1.5")
    assert [line[width:] for line in lines[1:4]] == ["lue", "1.5", " 10"], "aligned to the right"
    assert lines[4] == "  inside"
    assert lines[5] == ("long " * 60).strip(), "neither wrapped nor cut"
    assert not any(line.endswith(" ") for line in lines)


def test_a_table_without_a_head_and_with_marks_of_rich_and_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("a", "b"), [("[red]x[/red]", "\x1b[2Jy")], head=False)
    assert capsys.readouterr().out == "[red]x[/red]  \\x1b[2Jy\n"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0.0 KiB"), (1536, "1.5 KiB"), (2**20 - 1, "1024.0 KiB"), (5 * 2**19, "2.5 MiB")]
)
def test_sizes(count: int, expected: str) -> None:
    assert file_size(count) == expected


def test_json_is_strict_and_takes_names_that_are_no_utf8() -> None:
    text = json_text({"name": "a\udcff", "list": (1, None)})
    assert json.loads(text) == {"name": "a\\udcff", "list": [1, None]}
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="Out of range float"):
        json_text({"value": float("nan")})


def test_what_libraries_print_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_stdout():
        print("loading weights")
    assert capsys.readouterr() == ("", "loading weights\n")
    assert sys.stdout is not sys.stderr


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as display:
        task = display.add_task("work", total=2)
        display.advance(task)
        note("meanwhile", display.console)
    assert capsys.readouterr() == ("", "meanwhile\n")
