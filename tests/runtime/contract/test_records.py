"""Dataclasses as JSON and back: types, keys that are not known, and versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from cfcam.runtime.contract.records import Format, dump
from cfcam.runtime.errors import SpecError

FORMAT = Format("thing", SpecError, "1.3", "get a newer one")


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    scale: float = 1.0
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, int] | None = None
    many: tuple[Inner, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


WHOLE = {
    "name": "x", "inner": {"size": 1}, "scale": 2, "kind": "b", "pair": [1, 2], "many": [{"size": 3}], "extra": {"k": 1}
}  # fmt: skip


def test_there_and_back_with_keys_that_are_not_known():
    data = {**WHOLE, "later": [1], "inner": {"size": 1, "colour": "red"}}
    loaded = FORMAT.load(Outer, data)
    assert loaded == Outer("x", Inner(1), 2.0, "b", (1, 2), (Inner(3),), {"k": 1})
    assert dump(loaded) == data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 1}, "thing name: expected str, got 1"),
        ({"inner": {}}, r"thing inner\.size: missing"),
        ({"inner": {"size": True}}, r"inner\.size: expected int, got True"),
        ({"inner": 3}, "thing inner: expected an object"),
        ({"kind": "c"}, "kind: expected one of 'a', 'b', got 'c'"),
        ({"pair": [1]}, "pair: expected 2 items, got 1"),
        ({"many": "x"}, "many: expected a list"),
        ({"many": [{"size": "3"}]}, r"many\[0\]\.size: expected int"),
        ({"extra": []}, "extra: expected an object"),
    ],
)
def test_the_offending_key_is_named(change, words):
    with pytest.raises(SpecError, match=words):
        FORMAT.load(Outer, {**WHOLE, **change})


def test_newer_majors_are_refused_and_newer_minors_are_not():
    FORMAT.check_schema("1.9")
    with pytest.raises(SpecError, match=r"thing schema 2\.0 is newer than this cfcam reads \(1\.3\): get a newer one"):
        FORMAT.check_schema("2.0")
    with pytest.raises(SpecError, match=r"expected 'MAJOR\.MINOR', got 1"):
        FORMAT.check_schema(1)
