"""What pydantic found wrong, in words."""

import pytest
from cfcam.calibration.build.problems import nearest, problems_in

pydantic = pytest.importorskip("pydantic")


class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    threads: int = pydantic.Field(1, ge=1)


class Outer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    engine: Inner | None = None
    name: str


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"name": "a", "nam": 1}, "nam: unknown key, did you mean 'name'?: expected one of engine, name"),
        ({"name": "a", "engine": {"threds": 1}}, "did you mean 'threads'?: expected one of threads"),
        ({}, "name: is missing"),
        ({"name": 5}, "name: input should be a valid string, got 5"),
        (
            {"engine": {"threads": 0}},
            "engine.threads: input should be greater than or equal to 1, got 0; name: is missing",
        ),
    ],
)
def test_problems_are_words(document, words):
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate(document)
    assert problems_in(caught.value, Outer).endswith(words)


def test_nothing_near():
    assert nearest("backend", ["x", "y"]) == ""
    assert nearest("bakend", ["backend"]) == ", did you mean 'backend'?"
