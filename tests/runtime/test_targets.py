"""What people call a class."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.contract.columns_spec import ColumnsSpec
from cfcam.runtime.contract.spec import FixedTargetSpec, OutputSpec
from cfcam.runtime.errors import TargetError
from cfcam.runtime.targets import (
    check_fixed_target,
    class_feed,
    inferences,
    resolve_columns,
    resolve_ranked,
    resolve_target,
    resolve_targets,
    top_ranks,
)

_OUTPUT = OutputSpec(
    name="y",
    score="y",
    classes=7,
    labels=("tench", "Boston bull, Boston terrier", "crane", "crane", "maillot", "maillot, tank suit", "Polish"),
)


@pytest.mark.parametrize(
    ("target", "index"),
    [
        (None, -1),
        (-1, -1),
        (0, 0),
        (np.int64(6), 6),
        ("6", 6),
        (" tench ", 0),
        ("BOSTON TERRIER", 1),
        ("Boston bull, Boston terrier", 1),
        ("maillot", 4),  # the whole label comes before a part of one
        ("tank suit", 5),
    ],
)
def test_resolved(target, index):
    assert resolve_target(target, _OUTPUT) == index


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (7, r"target 7 is out of range: the model has 7 classes, 0 to 6"),
        (-2, "out of range"),
        ("700", "out of range"),
        ("crane", "ambiguous: classes 2, 3"),
        ("boston terier", r"no class is called 'boston terier'; nearest: 'Boston bull, Boston terrier' \(1\)"),
        ("", "no class is called ''"),
        (True, "expected a class index"),
        (1.5, "expected a class index"),
    ],
)
def test_refused(target, words):
    with pytest.raises(TargetError, match=words):
        resolve_target(target, _OUTPUT)


def test_case_decides_only_where_it_must():
    output = replace(_OUTPUT, classes=2, labels=("Polish", "polish"))
    assert resolve_target("polish", output) == 1
    with pytest.raises(TargetError, match="ambiguous"):
        resolve_target("POLISH", output)


def test_labels_that_are_digits_come_first():
    assert resolve_target("1", replace(_OUTPUT, classes=2, labels=("1", "0"))) == 0


def test_without_labels():
    output = replace(_OUTPUT, labels=None)
    assert resolve_target("3", output) == 3
    with pytest.raises(TargetError, match="has no labels: give a class index, 0 to 6"):
        resolve_target("tench", output)


def test_many():
    assert resolve_targets(None, 2, _OUTPUT) == [-1, -1]
    assert resolve_targets("tench", 2, _OUTPUT) == [0, 0]
    assert resolve_targets([None, 3, "tench"], 3, _OUTPUT) == [-1, 3, 0]
    assert resolve_targets(np.array([1, 2]), 2, _OUTPUT) == [1, 2]
    with pytest.raises(TargetError, match="or 3, one per image, got 2"):
        resolve_targets([1, 2], 3, _OUTPUT)
    with pytest.raises(TargetError, match="image 1: target 7 is out of range"):
        resolve_targets([1, 7], 2, _OUTPUT)


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        (None, {"0+": 0, "1": 1, "0-": 2, "1-": 3}),
        (("age+", "height+", "age-", "height-"), {"age+": 0, "AGE": 0, "height-": 3, "1-": 3, "0": 0}),
    ],
)
def test_values_of_a_regression_become_larger_or_smaller(labels, texts) -> None:
    output = OutputSpec(name="y", kind="regression", score="y", classes=4, labels=labels)
    assert {text: resolve_target(text, output) for text in texts} == texts
    assert [resolve_target(target, output) for target in (None, -1, 2)] == [0, 0, 2]
    for wrong in ("+", "-", "2+", "weight-"):
        with pytest.raises(TargetError):
            resolve_target(wrong, output)


def test_a_single_value_needs_no_name() -> None:
    output = OutputSpec(name="y", kind="regression", score="y", classes=2)
    assert [resolve_target(text, output) for text in ("+", "-", "0", "0-")] == [0, 1, 0, 1]
    named = OutputSpec(name="y", kind="regression", score="y", classes=2, labels=("age+", "age-"))
    assert [resolve_target(text, named) for text in ("+", "-", "age", "age-")] == [0, 1, 0, 1]
    assert [output.label(index) for index in range(2)] == ["+", "-"]


def test_columns_take_ranks_and_errors_name_the_column():
    output = OutputSpec(name="o", score="o", classes=4, labels=("red", "green", "blue", "grey"))
    assert resolve_columns([-1, "green", -3, None], 2, output).tolist() == [[-1, 1, -3, -1]] * 2
    assert resolve_columns([["red", "-2"], [2, 3]], 2, output).tolist() == [[0, -2], [2, 3]]
    assert resolve_columns(np.array([[1, 2]]), 1, output).tolist() == [[1, 2]]
    for wrong, words in (
        (["red", 4], "column 1: target 4 is out of range"),
        ([-5], "column 0: target -5 is out of range"),
        (["rad"], "column 0: no class is called 'rad'"),
        ([0, 1, 2, 3, 0], "5 classes of an image, and the model has 4"),
        ([], "at least one"),
        ("red", "expected a list"),
        ([[0, 1], [2, 4]], "row 1, column 1: target 4 is out of range"),
        ([["rad"], [0]], "row 0, column 0: no class is called 'rad'"),
        ([[0, 1], [2]], "2 lists of the same length"),
        ([[0, 1]], "2 lists of the same length"),
        ([[0, 1], 2], "2 lists of the same length"),
        ([[], []], "at least one class of each image"),
    ):
        with pytest.raises(TargetError, match=words):
            resolve_columns(wrong, 2, output)


def test_ranks_of_a_single_class():
    assert _OUTPUT.labels is not None
    assert [resolve_ranked(target, _OUTPUT) for target in (None, "tench", -2, "-7", " -2 ")] == [-1, 0, -2, -7, -2]
    named = replace(_OUTPUT, labels=("-2", *_OUTPUT.labels[1:]))
    assert resolve_ranked("-2", named) == 0, "a label comes before a rank"
    for wrong in (-8, "-8", 7, True, "x"):
        with pytest.raises(TargetError):
            resolve_ranked(wrong, _OUTPUT)


def test_the_best_classes():
    assert top_ranks(3, _OUTPUT) == [-1, -2, -3]
    wrong: Any
    for wrong in (0, 8, True, "3", 2.0):
        with pytest.raises(TargetError, match="expected a number from 1 to 7, as many as the model has, got"):
            top_ranks(wrong, _OUTPUT)
    with pytest.raises(TargetError, match="have no order"):
        top_ranks(1, OutputSpec(name="o", score="o", kind="regression", classes=4))


@pytest.mark.parametrize(
    ("columns", "classes", "count"),
    [
        (None, [3, 4], 2),
        (None, [-1], 1),
        (None, [-1, -2], 3),  # the order of the scores is asked for
        (ColumnsSpec(count=None, ranks=7), [-1, -2, 0], 1),
        (ColumnsSpec(count=2, ranks=7), [-1, -2, -3], 2),
        (ColumnsSpec(count=None, ranks=1), [-1, -2], 2),
    ],
)
def test_how_many_inferences_it_takes(columns, classes, count):
    spec: Any = SimpleNamespace(columns=columns)
    assert inferences(spec, classes) == count


def test_values_of_a_regression_have_no_rank():
    output = OutputSpec(name="o", score="o", kind="regression", classes=4)
    with pytest.raises(TargetError, match="column 1"):
        resolve_columns([0, -2], 1, output)


def test_one_class_that_is_part_of_the_graph():
    told: Any = SimpleNamespace(fixed_target=None, output=_OUTPUT, target="t")
    one: Any = SimpleNamespace(fixed_target=FixedTargetSpec(index=2), output=_OUTPUT, target="t")
    top: Any = SimpleNamespace(fixed_target=FixedTargetSpec(), output=_OUTPUT, target="t")
    classes = np.array([2, -1, 2])
    assert (class_feed(one, classes), class_feed(top, classes)) == ({}, {})
    assert class_feed(told, classes)["t"] is classes
    for spec in (told, one, top):
        check_fixed_target(spec, classes)
        check_fixed_target(spec, classes, np.array([2, 5, 2]))
    check_fixed_target(told, np.array([6]), np.array([6]))
    with pytest.raises(TargetError, match=r"x\.onnx: explains class 2 \(crane\) alone, not 6 \(Polish\): leave"):
        check_fixed_target(one, np.array([2, 6]), path="x.onnx")
    with pytest.raises(TargetError, match=r"top class of each image alone, here 5 \(.*\), not 2 \(crane\)"):
        check_fixed_target(top, classes, np.array([2, 4, 5]))
