"""Checks of single settings: one wording for all."""

from __future__ import annotations

import math

import pytest
from cfcam.runtime.checks import check_choice, check_flag, check_integer, check_number, did_you_mean
from cfcam.runtime.errors import MethodError


@pytest.mark.parametrize(
    ("check", "good", "bad", "words"),
    [
        (
            lambda v: check_number("w", "n", v, 0, 1),
            [0, 1, 0.5],
            [-1, 2, True, "1", math.nan],
            "a number from 0 to 1",
        ),
        (lambda v: check_integer("w", "n", v, 1), [1, 99], [0, 1.0, True, None], "a whole number of at least 1"),
        (lambda v: check_flag("w", "n", v), [True, False], [0, 1, "yes", None], "true or false"),
        (lambda v: check_choice("w", "n", v, ("a", "b")), ["a", "b"], ["c", None], "one of 'a', 'b'"),
    ],
)
def test_what_is_taken(check, good, bad, words):
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(MethodError, match=f"^w: n: expected {words}, got "):
            check(value)


def test_an_unknown_name_gets_the_nearest_one_as_a_hint():
    assert did_you_mean("gradcm", ["cfcam", "gradcam"]) == "; did you mean 'gradcam'?"
    assert did_you_mean("elephant", ["cfcam", "gradcam"]) == "."
