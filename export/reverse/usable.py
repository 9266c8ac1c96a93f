"""From which values the score can be differentiated, found by doing it."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from ...runtime.errors import CfcamError
from ..graph import Graph
from .core import backward
from .emitter import Emitter
from .path import find_path, refusal
from .rewriting import find_rewrite, rewrite_path
from .score import Score

__all__ = ["blocker", "refusals"]


def blocker(graph: Graph, layer: str, score: str) -> NodeProto | None:
    """The last node between layer and score that cannot be differentiated, or None."""
    nodes = find_path(graph, [layer], [score]).nodes
    bad = [n for n in nodes if find_rewrite(n) is None and refusal(n) is not None]
    return bad[-1] if bad else None


def refusals(graph: Graph, score: Score, layers: Iterable[str]) -> dict[str, str]:
    """Why the score has no gradient with respect to some of `layers`: value -> reason.

    A rule may cover some forms of its operator only, which shows when it is applied: so the backward pass is written,
    to a copy. One walk reaches all layers; where a node stops it, those behind that node are tried again.
    """
    found: dict[str, str] = {}
    waiting = list(layers)
    while waiting:
        twin = graph.copy()
        try:
            rewrite_path(twin, waiting, [score.value])
            emitter = Emitter(twin, prefix="trial")
            slopes = backward(twin, emitter, {score.value: emitter.value(score.value)}, waiting)
        except CfcamError as error:
            node = twin.producers.get(getattr(error, "value", None) or "")
            read = set() if node is None else set(node.input)
            reached = [name for name in waiting if read & twin.descendants([name])] or waiting
            found |= dict.fromkeys(reached, str(error))
            waiting = [name for name in waiting if name not in found]
        else:
            return found | {n: f"the gradient of score '{score.value}' is zero" for n, g in slopes.items() if g is None}
    return found
