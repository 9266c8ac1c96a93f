"""Probabilities are traced to the scores in front of them, through what people put behind a softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import Score, find_score
from numpy.typing import NDArray
from score_heads import head, integers, logits, node, run

Array = NDArray[Any]
F = np.float32
SOFTMAX, SIGMOID = [node("Softmax", ["logits"], ["p"], axis=1)], [node("Sigmoid", ["logits"], ["p"])]
SUM = [node("Exp", ["logits"], ["e"]), node("ReduceSum", ["e", "one_axis"], ["total"])]
AXIS = {"one_axis": integers(1)}
CUTS = {"zero": integers(0), "two": integers(2), "five": integers(5), **AXIS}


def softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def slices(source: str = "p") -> list:
    return [
        node("Slice", [source, "zero", "two", "one_axis"], ["first"]),
        node("Slice", [source, "two", "five", "one_axis"], ["rest"]),
    ]


# name: nodes, constants, the kind, the scores and the probabilities by hand from the logits z
Case = tuple[list, dict[str, Array], str, Callable[[Array], Array], Callable[[Array], Array]]
CASES: dict[str, Case] = {
    "quantised": (
        [*SOFTMAX, node("QuantizeLinear", ["p", "s", "o"], ["q"]),
         node("DequantizeLinear", ["q", "s", "o"], ["out"])],
        {"s": np.array(1 / 256, F), "o": np.array(-128, np.int8)},
        "softmax", lambda z: z,
        lambda z: np.minimum(np.round(softmax(z) * 256), 255) / 256,
    ),
    "limited": (
        [*SOFTMAX, node("Clip", ["p", "low", "high"], ["out"])], {"low": np.array(0.1, F), "high": np.array(0.9, F)},
        "softmax", lambda z: z, lambda z: softmax(z).clip(0.1, 0.9),
    ),
    "percent": ([*SOFTMAX, node("Mul", ["p", "h"], ["out"])], {"h": np.array(100, F)}, "softmax", lambda z: z, softmax),
    "columns cut out": (
        [*SOFTMAX, node("Slice", ["p", "two", "five", "one_axis"], ["out"])], CUTS, "softmax",
        lambda z: z[:, 2:], lambda z: softmax(z)[:, 2:],
    ),
    "columns cut out, adding up to 1 again": (
        [*SOFTMAX, *slices(), node("ReduceSum", ["rest", "one_axis"], ["t"]), node("Div", ["rest", "t"], ["out"])],
        CUTS, "softmax", lambda z: z[:, 2:], lambda z: softmax(z[:, 2:]),
    ),
    "columns picked": (
        [*SOFTMAX, node("Gather", ["p", "i"], ["out"], axis=1)], {"i": integers(4, 0)}, "softmax",
        lambda z: z[:, [4, 0]], lambda z: softmax(z)[:, [4, 0]],
    ),
    "columns in another order": (
        [*SOFTMAX, node("Gather", ["p", "i"], ["out"], axis=1)], {"i": integers(4, 2, 0, 1, 3)}, "softmax",
        lambda z: z[:, [4, 2, 0, 1, 3]], lambda z: softmax(z)[:, [4, 2, 0, 1, 3]],
    ),
    "pieces": (
        [*slices("logits"), node("Softmax", ["first"], ["a"], axis=1), node("Softmax", ["rest"], ["b"], axis=1),
         node("Concat", ["a", "b"], ["out"], axis=1)],
        CUTS, "softmax", lambda z: z, lambda z: np.concatenate([softmax(z[:, :2]), softmax(z[:, 2:])], 1),
    ),
    "mean of two views": (
        [*SOFTMAX, node("Mul", ["logits", "half"], ["other"]), node("Softmax", ["other"], ["p2"], axis=1),
         node("Add", ["p", "p2"], ["sum"]), node("Mul", ["sum", "half"], ["out"])],
        {"half": np.array(0.5, F)}, "softmax", lambda z: 0.75 * z, lambda z: (softmax(z) + softmax(z / 2)) / 2,
    ),
    "mean over an axis of views": (
        [node("Mul", ["logits", "half"], ["other"]), node("Unsqueeze", ["logits", "one_axis"], ["a"]),
         node("Unsqueeze", ["other", "one_axis"], ["b"]), node("Concat", ["a", "b"], ["views"], axis=1),
         node("Softmax", ["views"], ["p"], axis=-1), node("ReduceMean", ["p", "one_axis"], ["out"], keepdims=0)],
        {"half": np.array(0.5, F), **AXIS}, "softmax", lambda z: 0.75 * z, lambda z: (softmax(z) + softmax(z / 2)) / 2,
    ),
    "written out": ([*SUM, node("Div", ["e", "total"], ["out"])], AXIS, "softmax", lambda z: z, softmax),
    "written out, shifted": (
        [node("ReduceMax", ["logits", "one_axis"], ["m"]), node("Sub", ["logits", "m"], ["d"]),
         node("Exp", ["d"], ["e"]), node("ReduceSum", ["e", "one_axis"], ["total"]),
         node("Reciprocal", ["total"], ["r"]), node("Mul", ["e", "r"], ["out"])],
        AXIS, "softmax", lambda z: z, softmax,
    ),
    "exp of log-softmax": (
        [node("LogSoftmax", ["logits"], ["p"], axis=1), node("Exp", ["p"], ["out"])], {},
        "softmax", lambda z: z, softmax,
    ),
    "log of softmax": (
        [*SOFTMAX, node("Log", ["p"], ["out"])], {}, "logits", lambda z: z, lambda z: np.log(softmax(z))
    ),
    "log-softmax written out": (
        [*SUM, node("Log", ["total"], ["l"]), node("Sub", ["logits", "l"], ["out"])], AXIS, "logits",
        lambda z: z, lambda z: np.log(softmax(z)),
    ),
    "sigmoid written out": (
        [node("Neg", ["logits"], ["n"]), node("Exp", ["n"], ["e"]), node("Add", ["e", "one"], ["a"]),
         node("Div", ["one", "a"], ["out"])],
        {"one": np.array(1, F)}, "sigmoid", lambda z: z, sigmoid,
    ),
    "sigmoid by tanh": (
        [node("Mul", ["logits", "half"], ["n"]), node("Tanh", ["n"], ["t"]), node("Add", ["t", "one"], ["a"]),
         node("Mul", ["a", "half"], ["out"])],
        {"one": np.array(1, F), "half": np.array(0.5, F)}, "sigmoid", lambda z: z, sigmoid,
    ),
    "one minus sigmoid": (
        [*SIGMOID, node("Sub", ["one", "p"], ["out"])], {"one": np.array(1, F)}, "sigmoid",
        lambda z: -z, lambda z: sigmoid(-z),
    ),
    "log of sigmoid": ([*SIGMOID, node("Log", ["p"], ["out"])], {}, "sigmoid", lambda z: z, sigmoid),
    "the best three": (
        [*SOFTMAX, node("TopK", ["p", "k"], ["out", "indices"])], {"k": integers(3)}, "softmax", lambda z: z, softmax
    ),
    "one-hot": ([*SOFTMAX, node("Hardmax", ["p"], ["out"], axis=1)], {}, "softmax", lambda z: z, softmax),
}  # fmt: skip


def found(case: str) -> tuple[Score, dict[str, Array]]:
    nodes, constants, *_ = CASES[case]
    graph, _ = open_model(head(nodes, constants))
    score = find_score(graph)
    return score, run(graph, score.value, score.output)


@pytest.mark.parametrize("case", CASES)
def test_scores_and_probabilities(case: str) -> None:
    _, _, kind, scores, probabilities = CASES[case]
    score, values = found(case)
    assert (score.kind, score.recognised) == (kind, True)
    np.testing.assert_allclose(values[score.value], scores(logits()), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values[score.output], probabilities(logits()), rtol=1e-4, atol=1e-5)
    if score.exact and kind != "logits":
        function = softmax if kind == "softmax" else sigmoid
        np.testing.assert_allclose(function(values[score.value]), values[score.output], atol=1e-6)


NONE: dict[str, tuple[list, dict[str, Array]]] = {
    "a hyperbolic tangent": ([node("Tanh", ["logits"], ["out"])], {}),
    "coarser classes": ([*SOFTMAX, *slices(), node("ReduceSum", ["rest", "one_axis"], ["r"]),
                         node("Add", ["first", "r"], ["out"])], CUTS),
    "a gate": ([*SIGMOID, node("Mul", ["p", "logits"], ["out"])], {}),
    "a difference": ([*SOFTMAX, node("Sub", ["p", "logits"], ["out"])], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", NONE)
def test_what_holds_no_probabilities_is_taken_as_it_is(case: str) -> None:
    graph, _ = open_model(head(*NONE[case]))
    score = find_score(graph)
    assert (score.kind, score.value, score.recognised) == ("logits", "out", False)
