"""Whether what a plain model says of an image depends on the other images of its batch, measured before it is exported.

A model that is given with a free batch is run on single images, on two and on more, and what it gives for an image
must be the same each time. A model that is right for single images only (it squeezes its batch away, or normalises over
it) can still be explained image by image; one that has no answer for a single image cannot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ...runtime.engines.onnxruntime.words import refusal
from ..errors import ExportError
from ..graph import Graph, value_info
from .session import Session

__all__ = ["refuse_company", "why_single"]

Array = NDArray[Any]

_MANY = 5
#: What kernels for batches of several sizes may differ by, of the largest value; among float16 or quantised values.
_SAME, _SAME_COARSE = 1e-4, 2e-2
_NO_ANSWER = (
    "'{}' is the same for every image that is given alone: the model has no answer for one image (a mean, a softmax or "
    "a batch norm over the batch leaves none); mend it, and export it again"
)


def why_single(graph: Graph, name: str, images: Array, values: list[str], *, coarse: bool) -> str | None:
    """Why the model is right for single images only.

    Args:
        graph: the plain model, with a free batch.
        name: of its image input.
        images: (5 or more, ...) for it.
        values: what must hold for every image by itself: the scores, those before a softmax last.
        coarse: whether there are float16 or quantised values, which move with the kernels that are chosen.

    Returns:
        The reason, for a note; None where a batch of any size is right, or where the model does not run at all.

    Raises:
        ExportError: a single image has no answer of its own.
    """
    images = images[:_MANY]
    try:
        session = Session(_giving(graph, values))
    except ExportError:
        return None  # what is wrong with it is said by those who need it
    alone = [_answer(session, name, images[i : i + 1], values) for i in (0, 1)]
    batches = {count: _answer(session, name, images[:count], values) for count in (2, len(images))}
    errors = [error for error in (*alone, *batches.values()) if isinstance(error, str)]
    if len(errors) == len(alone) + len(batches):
        return None
    if isinstance(alone[0], str) or isinstance(alone[1], str):
        raise ExportError(
            f"the model does not run on a single image, only on several at once ({errors[0]}): an operator takes the "
            "batch for another axis (in PyTorch, squeeze() without dimensions does); mend it, and export it again"
        )
    for count, several in batches.items():
        if isinstance(several, str):
            return f"the model does not run on {count} images at once ({several})"
        for value, *singles, batch in zip(values, alone[0], alone[1], several, strict=True):
            reason = _difference(value, singles, batch, count, _SAME_COARSE if coarse else _SAME)
            if reason is not None:
                return reason
    return None


def refuse_company(graph: Graph, name: str, images: Array, values: list[str], *, coarse: bool) -> None:
    """Refuse a model with a fixed batch whose answer for an image depends on the others, or on no image.

    images: one batch or more. The other arguments are those of `why_single`. Raises `ExportError`.
    """
    size = (graph.shape(name) or (1,))[0]
    assert isinstance(size, int)
    batch, other = images[:size], images[:size].copy()
    others = slice(min(size - 1, 1), None)  # all but the first, and the only one
    other[others] = np.flip(batch[others], axis=(-1, -2))
    try:
        session = Session(_giving(graph, values))
    except ExportError:
        return
    first, second = _answer(session, name, batch, values), _answer(session, name, other, values)
    if isinstance(first, str) or isinstance(second, str):
        return
    for value, one, two in zip(values, first, second, strict=True):
        error = np.abs(one - two)[:1].max(initial=0) / (np.abs(one).max(initial=0) or 1.0)
        if size == 1 and error <= 1e-6 and value == values[-1]:  # a softmax may be saturated, its logits are not
            raise ExportError(_NO_ANSWER.format(value))
        if size > 1 and error > (_SAME_COARSE if coarse else _SAME):
            raise ExportError(
                f"'{value}' of an image depends on the other images of its batch of {size} (by {error:.2g} of the "
                "largest): export the model with a free batch, or with a batch of one"
            )


def _giving(graph: Graph, values: list[str]) -> ModelProto:
    probed = graph.copy()
    probed.outputs = [value_info(graph, value) for value in values]
    return probed.to_model()


def _answer(session: Session, name: str, images: Array, values: list[str]) -> list[Array] | str:
    """The values for a batch, or what ONNX Runtime said instead."""
    try:
        found = session.run({name: images})
    except ExportError as error:
        return refusal(error.__cause__ or error)
    return [np.asarray(found[value], np.float64) for value in values]


def _difference(value: str, singles: list[Array], batch: Array, count: int, limit: float) -> str | None:
    """In what a batch of `count` differs from its first images alone. Raises `ExportError`."""
    single = singles[0]
    if single.ndim == 0 or len(single) != 1 or batch.shape != (count, *single.shape[1:]):
        return f"'{value}' has shape {single.shape} for one image and {batch.shape} for {count}"
    largest = max(np.abs(batch).max(initial=0), np.abs(single).max(initial=0)) or 1.0
    error = max(np.abs(batch[i] - alone[0]).max(initial=0) / largest for i, alone in enumerate(singles))
    if error <= limit:
        return None
    if np.abs(singles[0] - singles[1]).max(initial=0) <= 1e-6 * largest:
        raise ExportError(_NO_ANSWER.format(value))
    return f"'{value}' of an image depends on the other images of its batch (by {error:.2g} of the largest)"
