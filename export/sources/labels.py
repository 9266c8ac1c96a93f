"""Class names from a file.

What is read: plain text with one name per line, a JSON list of names, and a JSON object from index to name or from name
to index (as Keras' ``class_indices.json``; also inside a larger object, as model hubs write `id2label`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...runtime.json_reader import parse_json, read_text
from ...runtime.shown import shown_value
from ..errors import ExportError

__all__ = ["BACKGROUND", "MOST_BEFORE", "check_labels", "check_texts", "read_labels"]

#: Name of the classes that a model has in front of those that the file names.
BACKGROUND = "background"

#: How many classes a model may have in front of those that a file names: one, nearly always.
MOST_BEFORE = 1000


def read_labels(path: str | os.PathLike[str], offset: int = 0) -> tuple[str, ...]:
    """The labels in the file at `path`, in the model's own order.

    offset: how far the model's index is ahead of the file's (1 for models with "background"
    at index 0); that many labels "background" are put in front.
    Raises `ExportError` when the file is missing, unreadable, has gaps or holds no names.
    """
    path = Path(path)
    if not 0 <= offset <= MOST_BEFORE:
        raise ExportError(f"label offset: expected 0 to {MOST_BEFORE}, got {offset}")
    text = read_text(path, ExportError)
    labels = _from_json(path, text) if text.lstrip()[:1] in ("[", "{") else _from_lines(path, text)
    if not labels:
        raise ExportError(f"{path}: holds no labels")
    return (BACKGROUND,) * offset + tuple(labels)


def check_labels(labels: Sequence[str] | None, classes: int) -> None:
    """Raises `ExportError` unless there is a label for every class (or none at all)."""
    if labels is None or len(labels) == classes:
        return
    raise ExportError(f"{len(labels)} labels for a model of {classes} class{'' if classes == 1 else 'es'}")


def check_texts(labels: Sequence[str] | None) -> None:
    """Raises `ExportError` where a label is no text, or none that a file can hold: before the work, not after it."""
    for index, label in enumerate(labels or ()):
        if not isinstance(label, str):
            raise ExportError(f"labels: label {index} is not a name: {shown_value(label)}")
        try:
            label.encode()
        except UnicodeEncodeError as error:
            raise ExportError(
                f"labels: label {index}, {shown_value(label)}, holds half a character, which no file in UTF-8 can: "
                "write it anew"
            ) from error


def _from_lines(path: Path, text: str) -> list[str]:
    labels = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    for number, label in enumerate(labels, 1):
        if not label:
            raise ExportError(f"{path}: line {number} is empty, every line must name a class")
        if "\0" in label:
            raise ExportError(f"{path}: is not a text file (line {number} holds a zero byte)")
    return labels


def _from_json(path: Path, text: str) -> list[str]:
    data = parse_json(text, str(path), ExportError)
    if isinstance(data, dict):
        inside = (data[key] for key in ("id2label", "label2id", "class_to_idx", "class_indices") if key in data)
        data = next((one for one in inside if isinstance(one, dict)), data)
    if isinstance(data, dict) and data and all(type(value) is int for value in data.values()):
        data = _by_name(path, data)
    if isinstance(data, dict):
        data = _by_index(path, data)
    return [_name(path, index, value) for index, value in enumerate(data)]


def _by_name(path: Path, data: dict[str, int]) -> dict[str, str]:
    """From name -> index, as Keras' ``class_indices`` and torchvision's ``class_to_idx``, to index -> name."""
    names: dict[str, str] = {}
    for name, index in data.items():
        if str(index) in names:
            raise ExportError(f"{path}: class {index} has two names, '{names[str(index)]}' and '{name}'")
        names[str(index)] = name
    return names


def _by_index(path: Path, data: dict[str, Any]) -> list[Any]:
    if not all(re.fullmatch("[0-9]{1,9}", key) for key in data):
        forms = "a JSON list of names, or an object from index to name or from name to index"
        raise ExportError(f"{path}: expected {forms}")
    found = {int(key): value for key, value in data.items()}
    if len(found) < len(data):
        raise ExportError(f"{path}: two of its keys are the same index, as '1' and '01' are")
    missing = [index for index in range(len(found)) if index not in found]
    if missing:
        raise ExportError(f"{path}: {len(found)} labels, but none for class {missing[0]}; indices must start at 0")
    return [found[index] for index in range(len(found))]


def _name(path: Path, index: int, value: Any) -> str:
    # [WordNet id, name] pairs are how ImageNet's class index is passed around.
    if isinstance(value, list) and len(value) == 2:
        value = value[1]
    if not isinstance(value, str) or not value.strip():
        raise ExportError(f"{path}: label {index} is not a name: {shown_value(value)}")
    return value.strip()
