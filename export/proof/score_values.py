"""What the values of the scores themselves say: whether they can be what the file takes them for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.probabilities import class_probabilities
from ..errors import ExportError
from ..reverse.score import Score
from .exported_file import ExportedFile, PlainOutputs
from .results import Check

__all__ = ["doubts_about_scores", "probabilities_as_given"]

Array = NDArray[Any]

#: Probabilities in float16 or in 256 steps add up to 1 by this.
_ROUNDED = 2e-2
#: Logits of classifiers seldom say more of one and the same class on images that differ; years or pixels do.
_CERTAIN = 1 - 1e-6


def doubts_about_scores(file: ExportedFile, score: Score) -> list[str]:
    """Sentences about scores in which no softmax or sigmoid was seen, but whose values are no logits.

    Raises `ExportError` where they are certainly none: probabilities that add up to 1, vectors of length 1.
    """
    if score.recognised:
        return []
    values = file.top.outputs[file.spec.output.name].reshape(len(file.images), -1).astype(np.float64)
    if score.columns:
        values = values[:, 1:]
    name, every = score.source, f"on all {len(values)} images of the proof"
    inside = bool(((values >= 0) & (values <= 1)).all())
    # Logits that hardly move may happen to lie there: numbers that add up to 1 on every image do not happen.
    if inside and values.shape[1] > 1 and np.allclose(values.sum(1), 1, atol=_ROUNDED):
        raise ExportError(
            f"output '{name}' holds numbers from 0 to 1 that add up to 1 {every}, and no softmax was found that "
            "made them: they are probabilities, not logits; say so with --score-kind softmax, or name "
            "the logits with --score NAME"
        )
    if values.shape[1] > 2 and np.allclose(np.linalg.norm(values, axis=1), 1, atol=1e-3):
        raise ExportError(
            f"output '{name}' is a vector of length 1 {every}: an embedding, which has no classes; --reference "
            "FILE.npy explains its similarity to a stored vector, --score-kind logits takes its numbers for scores"
        )
    if inside:
        return [
            f"output '{name}' lies between 0 and 1 {every}, and no sigmoid was found that made it: it was taken for "
            "logits; if it holds probabilities, export again with --score-kind sigmoid (or softmax), if it holds "
            "values of their own, with --score-kind regression"
        ]
    if values.shape[1] > 1 and (values <= 0).all() and np.allclose(np.exp(values).sum(1), 1, atol=_ROUNDED):
        return [
            f"output '{name}' holds logarithms of probabilities {every}, and no log-softmax was found that made them: "
            "the gradient is that of the logarithm, not of the logit"
        ]
    shown = class_probabilities(_rows(file, file.top.outputs[file.spec.output.name]), file.spec.output.kind)
    top = shown.argmax(1)
    if file.spec.output.kind in ("logits", "binary") and (top == top[0]).all() and shown.max(1).min() > _CERTAIN:
        low, high = values.min(), values.max()
        return [
            f"output '{name}' ({low:.4g} to {high:.4g}) makes one class certain {every}: if it holds values and not "
            "scores of classes, export again with --score-kind regression"
        ]
    return []


def probabilities_as_given(file: ExportedFile, score: Score, plain: PlainOutputs) -> list[Check]:
    """The probability that people are shown, against the one that the source itself gives out.

    Where values are quantised, both are computed node by node: what kernels do to either says nothing about the score.
    """
    alone = plain.node_by_node
    given = (plain if alone is None else alone).get(score.source)
    if given is None or file.spec.output.kind == "regression" or not score.recognised or given.dtype.kind != "f":
        return []
    answer = file.top if alone is None else file.node_by_node
    shown = class_probabilities(_rows(file, answer.outputs[file.spec.output.name]), file.spec.output.kind)
    given = (_rows(file, given).astype(np.float64) - score.offset) / score.factor
    if score.columns:
        shown = shown[:, 1:]
    if given.shape[1] > shown.shape[1]:
        return []
    if given.shape[1] < shown.shape[1]:  # the best of them
        shown = -np.sort(-shown, axis=1)[:, : given.shape[1]]
    if not ((given >= -1e-3) & (given <= 1.001)).all():  # logits, or their logarithms
        return []
    # Behind a single logit (columns) the source may round its probability, which the two classes do not.
    rounded = bool(score.columns) or not score.exact
    coarse = file.coarse or file.coarse_before or rounded or file.spec.input.dtype == "float16"
    error = float(np.abs(shown - given).max(initial=0))
    return [Check("probability as the source gives it", error, _ROUNDED if coarse else 1e-5)]


def _rows(file: ExportedFile, values: Array) -> Array:
    return values.reshape(len(file.images), -1)
