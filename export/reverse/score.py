"""Which value is differentiated: the scores behind a model's output, and the classes that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ...runtime.contract.spec import OutputSpec
from ..errors import ExportError
from ..graph import Graph, Shape
from .emitter import Emitter, Value
from .origin import Origin, find_origin

__all__ = ["Score", "ScoreKind", "both_sides", "find_score", "score_of", "similarity_score"]

#: What can be said of an output.
ScoreKind = Literal["logits", "softmax", "sigmoid", "log-softmax", "regression"]

_PASSING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
#: What makes a decision, or a ranking, of the scores in front of it.
_DECIDING = {"TopK", "ArgMax", "Hardmax", "ReduceMax"}
_ROUNDING = {"QuantizeLinear", "DequantizeLinear"}
_LAYERS = {"Gemm", "MatMul", "Conv", "Einsum"}
#: What is nearer to 1 than this is taken for it where its log-odds are needed: float32 has no more digits there.
_NEAREST_TO_ONE = 1e-7
#: Probabilities below this are taken for it where their logarithm is needed.
_LEAST = 1e-30


@dataclass(frozen=True)
class Score:
    """output: the value that people see; kind: what it holds. value: what is differentiated.

    shape: of the value, (N, classes) with any axes of 1 behind. source: the model's own output that `output` was
    found behind, mostly the same. exact: softmax (sigmoid) of the value gives the output; otherwise what stands
    between them rounded, chose columns, joined or averaged. factor, offset: the source is factor * output + offset.
    recognised: the kind was seen in the graph or stated.
    base: the value that the columns are made of, mostly `value` itself; columns, signs: which column each class is,
    and whether as it is (1) or negated (-1), where there are two classes for each column. notes: what to tell people.
    """

    output: str
    kind: Literal["logits", "softmax", "sigmoid", "binary", "regression"]
    value: str
    shape: Shape
    classes: int
    source: str = ""
    exact: bool = True
    factor: float = 1.0
    offset: float = 0.0
    recognised: bool = False
    base: str = ""
    columns: tuple[int, ...] = ()
    signs: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def find_score(graph: Graph, name: str | None = None, kind: ScoreKind | None = None) -> Score:
    """Find the scores behind output `name` (default: see `_chosen`), and what they are.

    A softmax or sigmoid is stepped over, with what rounds, limits, scales, chooses, joins or averages its
    probabilities behind it (`find_origin`); new nodes repeat on the scores what moves or chooses columns. So are
    quantisers right behind logits, which have no gradient where a score lies beyond their range. A ranking
    or a decision (TopK, ArgMax) is stepped over to what it was made of. What cannot be seen, `kind` states.

    Raises `ExportError` when there is no (N, classes) score.
    """
    notes: list[str] = []
    if name is None:
        source, shown = _chosen(graph, notes, scalar_first=kind == "regression")
    elif name not in graph.producers:
        raise ExportError(f"the graph has no value '{name}' to explain; its outputs are {_described(graph)}")
    else:
        source, shown = name, _in_front(graph, name)
    if shown != source:
        notes.append(f"output '{source}' is a ranking, a decision or integers: '{shown}' has the scores")
    origin = None if kind in ("logits", "regression") else find_origin(graph, shown)
    if origin is not None and (origin.factor <= 0 or (origin.kind == "sigmoid" and origin.offset < -1e-2)):
        origin = None  # a tanh, for instance, is no probability
    if kind is not None and origin is not None and origin.kind != kind:
        origin = None  # what the caller says wins
    if origin is not None:
        found = _of_probabilities(graph, shown, origin)
    elif kind in ("softmax", "sigmoid"):
        found = _of_opaque_probabilities(graph, shown, kind)
    else:
        value = _before_rounding(graph, shown)
        found = Score(shown, "regression" if kind == "regression" else "logits", value, (), 0, exact=value == shown)
        found = replace(found, recognised=kind is not None)
    classes = _width(graph.shape(found.value))
    shape = graph.shape(found.value)
    if classes is None or shape is None:
        raise ExportError(
            f"score '{found.value}' has shape {_written(graph.shape(found.value))}, expected (N, classes) with a fixed "
            f"number of classes; name another value with --score; outputs: {_described(graph)}"
        )
    _check_batch(graph, found.value, shape)
    if found.kind == "logits" and classes == 1:
        found = replace(found, kind="binary")
    return replace(found, shape=shape, classes=classes, source=source, base=found.value, notes=tuple(notes))


def score_of(graph: Graph, output: OutputSpec) -> Score:
    """The score of an exported file, as its `CamSpec` states it; of an older one whose names are a tracer's, found."""
    value, shape = output.score, graph.shape(output.score)
    before = graph.ancestors([output.name])
    beside = output.partial and value in graph.producers  # what stands between is repeated on the scores
    if beside or (value not in before and output.name in graph.ancestors([value])):
        before.add(value)
    if value not in before or shape is None or _width(shape) != output.classes:
        return find_score(graph, output.name)
    exact = not output.partial
    return Score(
        output.name, output.kind, value, shape, output.classes, output.name, exact=exact, recognised=True, base=value
    )


def both_sides(graph: Graph, score: Score) -> Score:
    """Two classes for each column of a single logit or a regression; any other score as it is.

    One logit z becomes the logits (-z, z) of "not" and "yes", whose sigmoids add up to 1. Values y of a regression
    become (y, -y): what makes each larger, then what makes each smaller. The gradient of either is exact, and whatever
    reads the file sees classes like any others.
    """
    if score.kind != "regression" and score.classes > 1:
        return score
    count, regression = score.classes, score.kind == "regression"

    def sides(column: str, name: str) -> str:
        def join(e: Emitter) -> Value:
            value = _flat(e, column, count)
            both = (value, -value) if regression else (-value, value)
            return e("Concat", *both, axis=1, shape=(value.dims[0], 2 * count))

        return _write(graph, name, join)

    made = shown = sides(score.value, "cam_scores")
    if not score.exact and score.kind != "sigmoid":  # people see what the model's quantiser made of it
        shown = sides(score.output, "cam_rounded_scores")
    columns = tuple(range(count))
    return replace(
        score,
        output=shown,
        value=made,
        kind="regression" if regression else "binary",
        shape=graph.shape(made) or (),
        classes=2 * count,
        exact=shown == made,
        base=score.value,
        columns=columns * 2,
        signs=(1,) * count + (-1,) * count if regression else (-1, 1),
        recognised=score.recognised or score.kind == "sigmoid",
    )


def similarity_score(graph: Graph, name: str | None, reference: NDArray[np.floating[Any]]) -> Score:
    """The cosine of the angle between an embedding and a stored one, as a regression in [-1, 1].

    Raises `ExportError` when no output is as long as the reference, or the reference has no direction.
    """
    wanted = np.asarray(reference, np.float64).reshape(-1)
    if not np.isfinite(wanted).all() or not wanted.any():
        raise ExportError("reference: expected finite numbers that are not all zero, one for each of the embedding's")
    fitting = [o for o in graph.output_names if graph.is_float(o) and _width(graph.shape(o)) == wanted.size]
    source = name if name is not None else fitting[0] if fitting else None
    if source is None or source not in graph.producers or _width(graph.shape(source)) != wanted.size:
        raise ExportError(
            f"reference: has {wanted.size} numbers, and no such output (N, {wanted.size}) is there; outputs: "
            f"{_described(graph)}"
        )

    def cosine(e: Emitter) -> Value:
        value = _flat(e, source, wanted.size)
        direction = (wanted / np.linalg.norm(wanted)).astype(value.dtype)[:, None]
        length = e("Sqrt", e("MatMul", value * value, e.constant(np.ones_like(direction))))
        return e("MatMul", value, e.constant(direction)) / length

    made = _write(graph, "cam_similarity", cosine)
    return Score(made, "regression", made, graph.shape(made) or (), 1, source, recognised=True, base=made)


# -- what an output holds


def _of_probabilities(graph: Graph, shown: str, origin: Origin) -> Score:
    kind = origin.kind
    value = origin.leaf
    if not (origin.direct and _width(graph.shape(value)) == _width(graph.shape(shown)) is not None):
        value = _write(graph, "cam_logits", origin.scores)
    output = shown
    if not np.isclose(origin.factor, 1, rtol=1e-3) or abs(origin.offset) > 1e-3:
        output = _write(graph, "cam_probabilities", lambda e: (e.value(shown) - origin.offset) / origin.factor)
    if kind == "log-sigmoid" or (kind == "log-softmax" and not origin.exact and len(origin.leaves) == 1):
        logarithm = output
        output = _write(graph, "cam_probabilities", lambda e: e("Exp", e.value(logarithm)))
        kind = "sigmoid" if kind == "log-sigmoid" else "softmax"
    named: Any = "logits" if kind == "log-softmax" else kind
    factor, offset = (1.0, 0.0) if output == shown else (origin.factor, origin.offset)
    return Score(output, named, value, (), 0, exact=origin.exact, factor=factor, offset=offset, recognised=True)


def _of_opaque_probabilities(graph: Graph, shown: str, kind: Literal["softmax", "sigmoid"]) -> Score:
    """Probabilities of which the caller knows that they are: their logarithm, or log-odds, takes the logits' place."""

    value = _before_rounding(graph, shown)

    def logits(e: Emitter) -> Value:
        held = e.value(value)
        near = e.as_value(_NEAREST_TO_ONE, held.kind)
        least = near if held.kind == TensorProto.FLOAT16 else e.as_value(_LEAST, held.kind)
        logarithm = e("Log", e("Max", held, least))
        return logarithm if kind == "softmax" else logarithm - e("Log", e("Max", 1 - held, near))

    return Score(shown, kind, _write(graph, "cam_logits", logits), (), 0, exact=value == shown, recognised=True)


def _before_rounding(graph: Graph, name: str) -> str:
    """The value (N, classes) in front of quantisers that `name` comes from, with nothing but reshaping between."""
    found, classes = name, _width(graph.shape(name))
    while (node := graph.producers.get(name)) is not None and (node.op_type in _PASSING or node.op_type in _ROUNDING):
        name = node.input[0]
        if name not in graph.producers or _width(graph.shape(name)) != classes:
            break
        if node.op_type == "QuantizeLinear" and graph.is_float(name):
            found = name
    return found


def _in_front(graph: Graph, name: str) -> str:
    """`name`, or, where it is a ranking or a decision, the scores that it was made of; integers are dequantised."""
    while (decided := _decided(graph, name)) is not None:
        name = decided
    node = graph.producers.get(name)
    while node is not None and node.op_type in _PASSING:
        node = graph.producers.get(node.input[0])
    if node is None or node.op_type != "QuantizeLinear" or graph.is_float(name):
        return name
    steps, kind, shape = node.input[1:], graph.elem_type(node.input[1]) or TensorProto.FLOAT, graph.shape(name)
    made = _write(
        graph, "cam_dequantised", lambda e: e("DequantizeLinear", e.value(name), *map(e.value, steps), shape=shape)
    )
    graph.types[made] = (kind, shape)
    return made


def _decided(graph: Graph, name: str) -> str | None:
    node = graph.producers.get(name)
    while node is not None and node.op_type in _PASSING:
        node = graph.producers.get(node.input[0])
    if node is None or node.op_type not in _DECIDING or (_width(graph.shape(node.input[0])) or 0) < 2:
        return None
    return node.input[0]


# -- which output


def _chosen(graph: Graph, notes: list[str], *, scalar_first: bool) -> tuple[str, str]:
    """(the model's output, the value with its scores): called "logits", else of several classes, and no features.

    Features are what another output is computed from, by a layer with weights.
    """
    fitting: dict[str, str] = {}
    for source in graph.output_names:
        shown = _in_front(graph, source)
        if graph.is_float(shown) and _width(graph.shape(shown)) is not None and shown not in fitting.values():
            fitting[source] = shown
    if not fitting:
        raise ExportError(
            f"no output has the shape (N, classes) of a classifier's scores: {_described(graph)}; a detector or a "
            "segmenter has no such score, otherwise name the value to explain with --score"
        )
    leaves = {source: origin.leaf for source, shown in fitting.items() if (origin := find_origin(graph, shown))}
    before = {source: graph.ancestors([leaves.get(source, shown)]) for source, shown in fitting.items()}

    def is_features(source: str) -> bool:
        readers = [other for other in fitting if other != source and fitting[source] in before[other]]
        if not readers:
            return False
        behind = graph.descendants([fitting[source]]) - {fitting[source]}
        layers = {output for node in graph.nodes if node.op_type in _LAYERS for output in node.output}
        return any(layers & behind & before[other] for other in readers)

    def rank(source: str) -> tuple[bool, bool, bool, bool]:
        single = _width(graph.shape(fitting[source])) == 1
        return source != "logits", is_features(source), single != scalar_first, fitting[source] != source

    best = min(fitting, key=rank)
    if len(graph.output_names) > 1:
        features = [f"'{source}'" for source in fitting if is_features(source) and source != best]
        because = f"; {', '.join(features)} is what others are computed from" if features else ""
        notes.append(f"of the outputs {_described(graph)}, '{best}' was taken{because}; --score NAME takes another")
    return best, fitting[best]


def _check_batch(graph: Graph, value: str, shape: Shape) -> None:
    """A score has one row per image: as many as there are in a batch that is fixed, no fixed number in a free one."""
    batches = [s[0] for i in graph.input_names if graph.is_float(i) and (s := graph.shape(i))]
    rows = shape[0] if shape else 1
    fixed = [batch for batch in batches if isinstance(batch, int)]
    if fixed and isinstance(rows, int) and rows > 1 and rows not in fixed:
        raise ExportError(
            f"score '{value}' has {rows} rows for {fixed[0]} image{'s' if fixed[0] > 1 else ''}, expected one row per "
            "image: where its rows are the classes, transpose it to (N, classes), otherwise name another value with "
            "--score"
        )
    if batches and not fixed and (not shape or (isinstance(rows, int) and rows > 1)):
        raise ExportError(
            f"score '{value}' has shape {_written(shape)} whatever the number of images is, expected one row per image "
            "(N, classes): mend the model, or name another value with --score"
        )


def _width(shape: Shape | None) -> int | None:
    """The number of classes of a (N, classes, 1, ...) shape, 1 of (N,) and of the () of a single image, else None."""
    if shape is None or any(d != 1 for d in shape[2:]):
        return None
    size = shape[1] if len(shape) > 1 else 1
    return size if isinstance(size, int) and size > 0 else None


def _flat(emitter: Emitter, name: str, width: int) -> Value:
    """A value (N, width) from one with axes of 1 behind, or without the axis of one column."""
    value = emitter.value(name)
    if value.rank == 2:
        return value
    return emitter("Reshape", value, emitter.ints([-1, width]), shape=((value.shape or (1,))[0], width))


def _write(graph: Graph, name: str, make: Callable[[Emitter], Value]) -> str:
    """Let `make` write nodes; what they give is called `name`, unless it is a value that was there before."""
    count = len(graph.nodes)
    value = make(Emitter(graph, prefix="scores")).name
    if not any(value in node.output for node in graph.nodes[count:]):
        return value
    own = graph.fresh(name)
    graph.rename(value, own)
    return own


def _described(graph: Graph) -> str:
    return ", ".join(f"'{o}' {_written(graph.shape(o))}" for o in graph.output_names)


def _written(shape: Shape | None) -> str:
    return "of unknown shape" if shape is None else "(" + ", ".join(str(d or "?") for d in shape) + ")"
