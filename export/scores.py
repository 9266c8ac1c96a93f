"""From what is asked about the scores to what the exported file says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..runtime.contract.spec import OutputSpec
from .batch import restore_batch
from .errors import ExportError
from .graph import Graph, value_info
from .options import ExportOptions
from .reverse.score import Score, both_sides, find_score, similarity_score
from .sources.labels import check_labels

__all__ = ["asked_score", "expose_score", "output_spec", "score_notes"]


def asked_score(graph: Graph, name: str | None, options: ExportOptions, batch: int | None = None) -> Score:
    """The score that is asked for, with two classes where the model has one logit or a regression's values.

    name: of an output, or of a value inside; None takes the fitting one. batch: that the model fixes. Raises
    `ExportError`.
    """
    first = name or graph.output_names[0]
    notes: tuple[str, ...] = ()
    if restore_batch(graph, first, batch):
        notes = (f"'{first}' comes without a batch: the exported file gives (1, classes), not (classes,)",)
    score = _found_score(graph, name, options)
    return replace(score, notes=(*notes, *score.notes))


def _found_score(graph: Graph, name: str | None, options: ExportOptions) -> Score:
    if options.reference is not None:
        if options.score_kind not in (None, "regression"):
            raise ExportError(
                f"score kind '{options.score_kind}': not with a reference, whose similarity is a regression"
            )
        return both_sides(graph, similarity_score(graph, name, options.reference))
    if options.unit is not None and options.score_kind != "regression":
        raise ExportError("unit: only a regression's values have one: add --score-kind regression")
    found = find_score(graph, name, options.score_kind)
    if options.multi_label and found.kind in ("softmax", "regression"):
        why = "a softmax, its classes exclude each other" if found.kind == "softmax" else "a regression"
        raise ExportError(f"multi-label: output '{found.output}' is {why}")
    return both_sides(graph, found)


def expose_score(graph: Graph, score: Score) -> list[str]:
    """Make outputs of what people see, and of scores that it does not determine; names of those that were none."""
    wanted = [score.output, *([] if score.exact else [score.value])]
    added = [name for name in dict.fromkeys(wanted) if name not in graph.output_names]
    graph.outputs.extend(value_info(graph, name) for name in added)
    return added


def output_spec(score: Score, options: ExportOptions, labels: Sequence[str] | None) -> OutputSpec:
    """What the file says of its scores. Raises `ExportError` for labels that do not fit."""
    return OutputSpec(
        name=score.output,
        kind="binary" if options.multi_label and score.kind == "logits" else score.kind,
        score=score.value,
        classes=score.classes,
        labels=_labels(score, ("similarity",) if options.reference is not None and labels is None else labels),
        label_offset=options.label_offset,
        unit=options.unit,
        partial=not score.exact,
    )


def _labels(score: Score, labels: Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if score.kind == "regression":
        check_labels(labels, len(score.columns) // 2)
        return tuple(f"{label}{sign}" for sign in "+-" for label in labels)
    if score.columns and len(labels) == 1:
        return f"not {labels[0]}", labels[0]
    check_labels(labels, score.classes)
    return tuple(labels)


def score_notes(score: Score, added: Sequence[str]) -> list[str]:
    """What people should know about how the scores were found."""
    notes = list(score.notes)
    if score.kind in ("softmax", "sigmoid"):
        notes.append(
            f"output '{score.source}' is a {score.kind}: the gradient is that of the logit before it"
            + ("" if score.exact else "; what rounds, limits, chooses or averages its probabilities was stepped over")
        )
    elif not score.exact:
        notes.append(
            f"output '{score.source}' is quantised: the gradient is that of '{score.base}' before it, which does not "
            "end at the quantiser's range"
        )
    if score.columns and score.kind == "binary":
        notes.append(
            f"'{score.base}' is one logit z: '{score.output}' has the logits (-z, z) of two classes, 0 that it is not "
            "there and 1 that it is"
            + ("" if score.recognised else "; of a value that is no logit say --score-kind regression")
        )
    if score.kind == "regression":
        notes.append(
            f"'{score.base}' is a regression: -t + explains what makes a value larger, -t - what makes it smaller"
            if len(score.columns) == 2
            else f"'{score.base}' is a regression of {len(score.columns) // 2} values: -t 0+ explains what makes the "
            "first larger, -t 0- what makes it smaller"
        )
    return [*notes, *(f"'{name}' is not an output of the model: it was added as one" for name in added)]
