"""Operators that ONNX Runtime does not know: what depends on them is left out, unless the scores do."""

from __future__ import annotations

from .errors import UnsupportedOperatorError
from .graph import Graph, value_info
from .wording import some

__all__ = ["leave_out_unrunnable"]

#: Domains whose operators ONNX Runtime brings, beside its own. What is unknown in them, it says itself.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training")
_ITS_OWN = ("com.microsoft", "com.ms.")


def leave_out_unrunnable(graph: Graph, score: str | None) -> list[str] | None:
    """Take out nodes of domains that ONNX Runtime does not know, with the outputs that depend on them.

    Args:
        graph: the plain model, opened; it is changed.
        score: the output or value with the scores, if it was named.

    Returns:
        None where there are no such nodes; else notes about the outputs that are gone.

    Raises:
        UnsupportedOperatorError: the scores depend on such a node.
    """
    unknown = [node for node in graph.nodes if node.domain not in _DOMAINS and not node.domain.startswith(_ITS_OWN)]
    if not unknown:
        return None
    lost = graph.descendants(name for node in unknown for name in node.output)
    kept = [output for output in graph.outputs if output.name not in lost]
    kinds = some(sorted({f"{node.domain}::{node.op_type}" for node in unknown}))
    if score in lost or (score is None and not kept):
        raise UnsupportedOperatorError(
            f"the scores depend on node '{unknown[0].name}' ({kinds}), an operator that ONNX Runtime does not know: "
            "export the model with standard operators in its place"
        )
    gone = [output.name for output in graph.outputs if output.name in lost]
    graph.outputs = kept or [value_info(graph, score or "")]
    graph.nodes = [node for node in graph.nodes if lost.isdisjoint(node.output)]
    graph.reindex()
    for domain in {node.domain for node in unknown}:
        graph.opsets.pop(domain, None)
    return [f"output '{name}' is left out: it depends on {kinds}, which ONNX Runtime does not know" for name in gone]
