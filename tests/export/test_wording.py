"""Pieces of messages are short, and on one line."""

from __future__ import annotations

from cfcam.export.wording import first_line, some, words


def test_the_first_few() -> None:
    assert some(["a", "b", "c", "d"]) == "a, b, c, d"
    assert some(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d, and 2 more"
    assert some([]) == ""


def test_errors_on_one_line() -> None:
    assert words(ValueError("two\n  lines")) == "ValueError: two lines"
    assert words(KeyError()) == "KeyError"
    assert words(ValueError("x" * 400)) == "ValueError: " + "x" * 300 + "…"


def test_the_first_line_that_says_something() -> None:
    assert first_line(ValueError("\n  what is wrong \nadvice")) == "what is wrong"
    assert first_line(ValueError(" \n")) == "ValueError"
    assert first_line(ValueError("x" * 301 + "\nmore")) == "x" * 300 + "…"
