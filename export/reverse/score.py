"""Which value is differentiated: the logits behind a model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ExportError
from ..graph import Graph, Shape

__all__ = ["Score", "find_score"]

_TRANSPARENT = {"Identity", "Dropout", "Cast"}
_RESHAPING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}


@dataclass(frozen=True)
class Score:
    """output: the model output that people see; kind: what it holds. value: what is differentiated.

    shape: of the value, (N, classes) with any axes of 1 behind.
    """

    output: str
    kind: Literal["logits", "softmax", "sigmoid", "binary"]
    value: str
    shape: Shape
    classes: int


def find_score(graph: Graph, name: str | None = None) -> Score:
    """Find the logits behind output `name` (default: the first output of shape (N, classes)).

    A final Softmax or Sigmoid is stepped over, also when the result is reshaped after it; a
    LogSoftmax is stepped over too, and its output still counts as logits (a softmax of it gives
    the same probabilities). Raises `ExportError` when there is no (N, classes) score.
    """
    if name is None:
        fitting = [o for o in graph.output_names if graph.is_float(o) and _classes(graph.shape(o)) is not None]
        if not fitting:
            raise ExportError(
                f"no output has the shape (N, classes) of a classifier's scores: {_described(graph)}; a detector or a "
                "segmenter has no such score, otherwise name the value to explain with --score"
            )
        name = fitting[0]
    elif name not in graph.producers:
        raise ExportError(f"the graph has no value '{name}' to explain; its outputs are {_described(graph)}")
    value, kind = _step_over(graph, name)
    shape = graph.shape(value)
    classes = 1 if shape is not None and len(shape) == 1 else _classes(shape)  # (N,): one score for each image
    if classes is None or shape is None:
        raise ExportError(
            f"score '{value}' has shape {_written(shape)}, expected (N, classes) with a fixed number of classes; "
            f"name another value with --score; outputs: {_described(graph)}"
        )
    _check_batch(graph, value, shape)
    if kind == "logits" and classes == 1:
        kind = "binary"
    return Score(output=name, kind=kind, value=value, shape=shape, classes=classes)


def _check_batch(graph: Graph, value: str, shape: Shape) -> None:
    """A score of several fixed rows cannot have one row per image where the number of images is free."""
    batches = [s[0] for i in graph.input_names if graph.is_float(i) and (s := graph.shape(i))]
    if isinstance(shape[0], int) and shape[0] > 1 and batches and not any(isinstance(b, int) for b in batches):
        raise ExportError(
            f"score '{value}' has shape {_written(shape)} whatever the number of images is, expected one row per image"
        )


def _step_over(graph: Graph, name: str) -> tuple[str, Literal["logits", "softmax", "sigmoid", "binary"]]:
    value = name
    while (node := graph.producers.get(value)) is not None:
        if node.op_type in _TRANSPARENT or (node.op_type in _RESHAPING and node.input[0]):
            value = node.input[0]
        elif node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
            kind = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "logits"}[node.op_type]
            return node.input[0], kind  # type: ignore[return-value]
        else:
            break
    return name, "logits"


def _classes(shape: Shape | None) -> int | None:
    """The number of classes of a (N, classes, 1, ...) shape, else None."""
    if shape is None or len(shape) < 2 or any(d != 1 for d in shape[2:]):
        return None
    size = shape[1]
    return size if isinstance(size, int) and size > 0 else None


def _described(graph: Graph) -> str:
    return ", ".join(f"'{o}' {_written(graph.shape(o))}" for o in graph.output_names)


def _written(shape: Shape | None) -> str:
    return "of unknown shape" if shape is None else "(" + ", ".join(str(d or "?") for d in shape) + ")"
