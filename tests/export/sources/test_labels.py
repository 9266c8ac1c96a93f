"""Label files in the forms that people have."""

import json

import pytest
from cfcam.export.errors import ExportError
from cfcam.export.sources.labels import read_labels


def write(tmp_path, text, name="labels.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("text", ["cat\ndog\n", "cat\r\ndog", "\ufeffcat\ndog\n\n", " cat \n dog "])
def test_lines(tmp_path, text):
    assert read_labels(write(tmp_path, text)) == ("cat", "dog")


@pytest.mark.parametrize(
    "data",
    [
        ["cat", "dog"],
        {"1": "dog", "0": "cat"},
        {"0": ["n02121808", "cat"], "1": ["n02084071", "dog"]},
        {"id2label": {"0": "cat", "1": "dog"}, "model_type": "x"},
        {"dog": 1, "cat": 0},
        {"label2id": {"cat": 0, "dog": 1}},
    ],
)
def test_json(tmp_path, data):
    assert read_labels(write(tmp_path, json.dumps(data), "labels.json")) == ("cat", "dog")


def test_names_that_are_digits_have_their_own_indices(tmp_path):
    path = write(tmp_path, json.dumps({"0": 0, "1": 1, "10": 2}), "class_indices.json")
    assert read_labels(path) == ("0", "1", "10")


def test_offset_puts_background_in_front(tmp_path):
    assert read_labels(write(tmp_path, "cat\ndog"), offset=1) == ("background", "cat", "dog")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no labels"),
        ("[]", "holds no labels"),
        ("cat\n\ndog", "line 2 is empty"),
        (b"\xff\xfe\x00c", "not UTF-8"),
        (b"PK\x00\x03", "not a text file"),
        ('["cat"', "not valid JSON"),
        ('["cat", 3]', "label 1 is not a name: 3"),
        ('{"0": "cat", "2": "dog"}', "none for class 1"),
        ('{"cat": "first"}', "expected a JSON list"),
        ('{"cat": 0, "dog": 0}', "class 0 has two names, 'cat' and 'dog'"),
        ('{"cat": 1, "dog": 2}', "none for class 0"),
    ],
)
def test_bad_files(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(ExportError, match=words) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ExportError, match="No such file"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(ExportError, match="cannot be read"):
        read_labels(tmp_path)


def test_negative_offset(tmp_path):
    with pytest.raises(ExportError, match="label offset"):
        read_labels(write(tmp_path, "cat"), offset=-1)
