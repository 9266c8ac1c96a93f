"""Checks of single settings: one wording for all."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from cfcam.runtime.checks import (
    check_choice,
    check_count,
    check_flag,
    check_integer,
    check_number,
    check_path,
    did_you_mean,
    expect,
)
from cfcam.runtime.errors import ArrayError, MethodError, ModelFileError


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


@pytest.mark.parametrize(
    ("value", "kinds", "words"),
    [
        (3, (str, None), "f: x: expected text or None, got 3 (int)"),
        (True, (int,), "f: x: expected a whole number, got True (bool)"),
        ("a\x1b[2J", (int, float), r"f: x: expected a whole number or a number, got 'a\x1b[2J' (str)"),
        (np.zeros(()), (Iterable,), "f: x: expected a sequence, got array(0.) (ndarray)"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(value, kinds, words):
    with pytest.raises(ArrayError) as caught:
        expect("f", "x", value, *kinds)
    assert str(caught.value) == words


def test_a_number_too_long_to_be_written():
    with pytest.raises(ArrayError, match="f: x: expected text, got something of the type int"):
        expect("f", "x", 10**5000, str)


def test_arguments_that_are_right():
    expect("f", "x", None, str, None)
    expect("f", "x", True, bool)
    expect("f", "x", [1], Iterable)
    check_count("x", np.int64(3))
    assert check_path("f", "a/b.onnx", ModelFileError).name == "b.onnx"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (3, "expected text or a path, got 3"),
        (b"x", "expected text or a path"),
        ("a\0b", "no file can be called"),
        ("a\ud800", "no file can be called"),
        ("/", "is a folder, a file was expected"),
    ],
)
def test_paths_that_are_none(path, words):
    with pytest.raises(ModelFileError) as caught:
        check_path("f", path, ModelFileError)
    assert words in str(caught.value)
