"""The answer for an image in an exported file: the same alone, in a pair, and in a larger batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ExportError
from .exported_file import COARSE_GRADIENT, Answer, ExportedFile
from .results import Check, image_errors

__all__ = ["batch_against_others"]

Array = NDArray[Any]


def batch_against_others(file: ExportedFile) -> list[Check]:
    """Each image alone and in a pair (where the batch is fixed: in another place, and beside other images)."""
    if file.batch == 1:
        return []
    images = file.images
    # Every image gets another class: behind a linear head that is all in which their gradients differ.
    classes = (file.top.classes + np.arange(len(images))) % file.spec.output.classes
    together = file.explain(images, classes)
    if file.batch is None:
        found = _against(file, "a batch against its singles", together, _in_parts(file, classes, 1))
        if len(images) > 2:
            found += _against(file, "a batch against its pairs", together, _in_parts(file, classes, 2))
        return found
    order = np.roll(np.arange(len(images)), 1)
    rolled = file.explain(images[order], classes[order])
    back = np.argsort(order)
    found = _against(file, "a batch against itself in another order", together, _rows(file, [rolled], back))
    # What is taken over all images of the only batch stays as it was in another order.
    changed, turned = images.copy(), slice(1, None, 2)
    changed[turned] = np.flip(images[turned], (2, 3) if file.spec.input.layout == "NCHW" else (1, 2))
    beside = _rows(file, [file.explain(changed, classes)])
    for kept, array in zip(_values(file, together), beside, strict=True):
        array[turned] = kept[turned]
    return found + _against(file, "a batch with other images in it", together, beside, slice(0, None, 2))


def _values(file: ExportedFile, answer: Answer) -> tuple[Array, Array, Array]:
    """Scores, activations and gradients."""
    return answer.outputs[file.spec.output.name], answer.activations, answer.gradients


def _rows(file: ExportedFile, answers: list[Answer], order: Any = slice(None)) -> list[Array]:
    """Scores, activations and gradients of several runs in one, with their images in another order."""
    return [np.concatenate(parts)[order] for parts in zip(*(_values(file, a) for a in answers), strict=True)]


def _in_parts(file: ExportedFile, classes: Array, size: int) -> list[Array] | None:
    """All images, `size` at a time; None where the file does not take so many, or answers with fewer rows or more."""
    parts = [slice(i, i + size) for i in range(0, len(file.images), size)]
    try:
        answers = [file.explain(file.images[part], classes[part]) for part in parts]
    except ExportError:
        return None
    counts = [len(file.images[part]) for part in parts]
    if any(len(v) != n for answer, n in zip(answers, counts, strict=True) for v in _values(file, answer)):
        return None
    return _rows(file, answers)


def _against(
    file: ExportedFile, name: str, together: Answer, apart: list[Array] | None, rows: slice = slice(None)
) -> list[Check]:
    """Scores, activations and gradients of the same images in another company; rows: those that count."""
    expected = _values(file, together)
    if apart is None or [a.shape for a in apart] != [e.shape for e in expected]:
        return [Check(name, float("inf"), 0, note="the file does not take so many images, or answers for fewer")]
    limit = COARSE_GRADIENT if file.coarse or file.coarse_before else 1e-4
    # A kernel for another batch size may round a value to the next step of its quantisation, and so on from there.
    worst = np.median if file.quantised or file.coarse_before else np.max
    scores, activations = (worst(image_errors(a, e)[rows]) for a, e in zip(apart[:2], expected[:2], strict=True))
    share = np.median(file.yardstick.shares(apart[2], expected[2])[rows])
    return [
        Check(f"{name}, share of the allowed error", float(share), 1),
        Check(f"{name}, activations", float(activations), limit),
        Check(f"{name}, scores", float(scores), limit),
    ]
