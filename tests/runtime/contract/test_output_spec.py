"""What a `CamSpec` says of the class scores."""

from __future__ import annotations

import pytest
from cfcam.runtime.contract.spec import OutputSpec
from cfcam.runtime.errors import SpecError


def output(**values) -> OutputSpec:
    return OutputSpec(**{"name": "y", "score": "y", "classes": 4, **values})


def test_labels_of_classes_and_of_values():
    assert output().label(3) == "3"
    assert output(labels=("a", "b", "c", "d")).label(1) == "b"
    two = output(kind="regression")
    assert (two.values, [two.label(i) for i in range(4)]) == (2, ["0+", "1+", "0-", "1-"])
    one = output(kind="regression", classes=2)
    assert (one.values, one.label(0), one.label(1)) == (1, "+", "-")
    assert output().values == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": 0}, "expected at least 1"),
        ({"classes": 10**9}, "at most"),
        ({"label_offset": -(10**9)}, "at most"),
        ({"labels": ("a",)}, "1 labels for 4 classes"),
        ({"kind": "regression", "classes": 3}, "two for each value"),
    ],
)
def test_refused(values, words):
    with pytest.raises(SpecError, match=words):
        output(**values).validate()
