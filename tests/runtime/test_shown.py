"""Names from outside, cleaned for messages and tables."""

from __future__ import annotations

import pytest
from cfcam.runtime.errors import ArrayError, CfcamError
from cfcam.runtime.shown import shown, shown_value, utf8


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("Boston bull", "Boston bull"),
        ("hündchen-犬 \U0001f436", "hündchen-犬 \U0001f436"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\x1b]0;owned\x07b", r"a\x1b]0;owned\x07b"),
        ("two\nlines\r\tand  more", "two lines and more"),
        ("exe\u202egpj.x", r"exe\u202egpj.x"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("zero\0byte\x7f\x9b", r"zero\x00byte\x7f\x9b"),
    ],
)
def test_names(name, clean):
    assert shown(name) == clean


def test_a_long_name_lacks_its_middle():
    short = shown("a" * 5000 + "end.jpg")
    assert len(short) < 320
    assert short.startswith("aaaa")
    assert short.endswith("end.jpg")


def test_values_that_cannot_be_written():
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown_value(Odd()) == "something of the type Odd"
    assert shown_value(10**5000) == "something of the type int"
    assert len(shown_value("x" * 10_000)) < 120


def test_every_error_is_clean_and_can_still_be_two_kinds():
    error = ArrayError(f"a\x1b[2J\n{'b' * 5000}: expected\u202e x")
    assert isinstance(error, ValueError)
    assert str(error).isprintable()
    assert len(str(error)) < 400
    assert str(error).endswith(r": expected\u202e x")
    assert CfcamError("x", 3).args == ("x", 3)


def test_utf8():
    assert utf8({"a\udc80": ["b\udcff", 1, None]}) == {"a\\udc80": ["b\\udcff", 1, None]}
