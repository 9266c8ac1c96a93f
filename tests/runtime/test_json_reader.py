"""The reader of JSON: what it takes, and one sentence for each kind of what it does not."""

from __future__ import annotations

import json

import pytest
from cfcam.runtime.errors import ManifestError
from cfcam.runtime.json_reader import parse_json, read_json


def test_plain_documents_come_through(tmp_path):
    document = {"a": [1, -2.5, 1e300, True, None], "b": {"c": "naïve \U0001f436"}, "big": 10**300, "deep": [[[[[]]]]]}
    (tmp_path / "x.json").write_text(json.dumps(document))
    assert read_json(tmp_path / "x.json", ManifestError) == document
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "bom.json", ManifestError) == [1]
    assert parse_json('"\\ud83d\\ude00"', "x", ManifestError) == "\U0001f600"  # two halves are a character


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "nested without end"),
        ("[" * 60 + "]" * 60, "nested more than 50 deep"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        ("9" * 5000, "a number of 5000 digits"),
        (str(10**400), "a number of 401 digits"),
        ("1e999", "1e999 is no finite number"),
        ("[NaN]", "NaN is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ("[٣]", "is not valid JSON"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' comes twice"),
        ('{"a\\u001b[2J": 1, "a\\u001b[2J": 3}', r"the key 'a\x1b[2J' comes twice"),
        ('{"a": "\\ud800"}', "is half a character"),
        ('{"\\udfff": 1}', "is half a character"),
        ('"\udc80"', "is half a character"),
        (b'"\xff"', "is not valid JSON"),
        (b"\xff\xfe[\0]\0", "is not valid JSON"),
        ("", "is not valid JSON"),
        (None, "is not valid JSON"),
    ],
)
def test_refused(text, words):
    with pytest.raises(ManifestError) as caught:
        parse_json(text, "x.json", ManifestError, remedy=": make it again")
    message = str(caught.value)
    assert message.startswith("x.json: is not valid JSON (")
    assert message.endswith("): make it again")
    assert words in message
    assert len(message) < 400


def test_files_that_cannot_be_read(tmp_path):
    for make, words in (
        (lambda path: None, "cannot be read (No such file"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory"),
        (lambda path: path.write_bytes(b"[\xff]"), "is not UTF-8 text (byte 1)"),
        (lambda path: path.write_bytes(b" " * 2000), "is larger than"),
    ):
        path = tmp_path / words[:3] / "x.json"
        path.parent.mkdir(exist_ok=True)
        if path.exists() or path.is_dir():
            path = path.with_name("y.json")
        make(path)
        with pytest.raises(ManifestError) as caught:
            read_json(path, ManifestError, most=1000)
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_json("a\0b", ManifestError)
