"""The reader of YAML: what it takes, and one sentence for each kind of what it does not."""

from __future__ import annotations

import pytest
from cfcam.calibration.build.yaml_reader import parse_yaml
from cfcam.runtime.errors import CfcamError

_BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


def test_plain_values():
    text = "a: 1\nb: [1.5, -2.0e+3, true, null, ~, 'x', \"y\"]\nc: {d: 2020-01-01, e: .5}\n1: =\n<<: 3\n"
    assert parse_yaml(text, "x.yaml", CfcamError) == {
        "a": 1,
        "b": [1.5, -2000.0, True, None, None, "x", "y"],
        "c": {"d": "2020-01-01", "e": 0.5},
        "1": "=",
        "<<": 3,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_BOMB, "line 1: not valid YAML (anchors and aliases are not read"),
        ("a: *b", "anchors and aliases are not read"),
        ("a: &a [*a]", "anchors and aliases are not read"),
        ("a: !!python/object/apply:os.system [x]", "tags such as tag:yaml.org,2002:python/"),
        ("a: !!binary =", "tags such as"),
        ("a: !!int x", "tags such as"),
        ("a: 1\nb: 2\na: 3", "line 3: not valid YAML ('a' comes twice)"),
        ("? [a]\n: 1", "a key must be a word"),
        ("a: .inf", "line 1: not valid YAML ('.inf' is no finite number)"),
        ("a: -.INF", "is no finite number"),
        ("a: .nan", "is no finite number"),
        ("a: 0x_", "is no finite number"),
        ("a: " + "9" * 5000, "is no finite number"),
        ("[" * 5000, "more than 20 levels"),
        ("a: [" + "[" * 30 + "]" * 30 + "]", "more than 20 levels"),
        ("a: \x00", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: [1", "not valid YAML"),
        ("x" * 2**21, "is longer than 1048576 characters"),
    ],
)
def test_refused(text, words):
    with pytest.raises(CfcamError) as caught:
        parse_yaml(text, "x.yaml", CfcamError)
    assert str(caught.value).startswith("x.yaml:")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
