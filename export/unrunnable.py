"""Operators that nobody here knows: what depends on them is left out, unless the scores do."""

from __future__ import annotations

from collections.abc import Callable

import onnx.defs
from onnx import ModelProto, NodeProto, helper

from .errors import UnsupportedOperatorError
from .graph.graph import reads, subgraphs
from .wording import some

__all__ = ["runnable_part"]

#: Domains whose operators ONNX Runtime brings; asked for single ones only where it does not list them.
_DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training", "com.microsoft")


def runnable_part(model: ModelProto, score: str | None) -> tuple[ModelProto, list[str]]:
    """The model without nodes whose operators neither ONNX nor ONNX Runtime knows, and what depends on them.

    An operator is unknown too where the file imports no version of its domain.

    Args:
        model: as it was read. It is not changed, and given back where there is no such node.
        score: the output or value with the scores, if it was named.

    Returns:
        The model, and notes about the outputs that are gone.

    Raises:
        UnsupportedOperatorError: the scores depend on such a node.
    """
    imported = {"", *(_domain(entry.domain) for entry in model.opset_import)}
    known = _knowledge(model)
    unknown = [node for node in model.graph.node if _domain(node.domain) not in imported or not known(node)]
    if not unknown:
        return model, []
    lost = {name for node in unknown for name in node.output if name}
    size = 0
    while size < len(lost):  # nodes may stand in any order
        size = len(lost)
        lost.update(name for n in model.graph.node if not lost.isdisjoint(reads(n)) for name in n.output if name)
    kept = [output.name for output in model.graph.output if output.name not in lost]
    kinds = some(sorted({f"{n.domain}::{n.op_type}" if n.domain else f"{n.op_type}" for n in unknown}))
    if all(_domain(node.domain) in imported for node in unknown):
        why = f"{kinds}, which ONNX Runtime does not know"
    else:
        why = f"{kinds}, of whose domain the file imports no version"
    if score in lost or (score is None and not kept):
        raise UnsupportedOperatorError(
            f"the scores depend on node '{unknown[0].name or unknown[0].output[0]}', of {why}: export the model with "
            "standard operators in its place"
        )
    gone = [output.name for output in model.graph.output if output.name in lost]
    made = ModelProto()
    made.CopyFrom(model)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in made.graph.node if lost.isdisjoint(node.output)]
    outputs = [output for output in made.graph.output if output.name in kept]
    outputs = outputs or [helper.make_empty_tensor_value_info(score or "")]
    del made.graph.node[:], made.graph.output[:]
    made.graph.node.extend(nodes)
    made.graph.output.extend(outputs)
    used = {node.domain for node in nodes} | {function.domain for function in made.functions}
    imports = [entry for entry in made.opset_import if entry.domain in used or entry.domain in _DOMAINS]
    del made.opset_import[:]
    made.opset_import.extend(imports)
    return made, [f"output '{name}' is left out: it depends on {why}" for name in gone]


def _knowledge(model: ModelProto) -> Callable[[NodeProto], bool]:
    """Which nodes of the model are of operators that are known."""
    listed = _listed()
    functions = {(_domain(function.domain), function.name): function for function in model.functions}

    def known(node: NodeProto) -> bool:
        domain, kind = _domain(node.domain), node.op_type
        there = domain in _DOMAINS or domain.startswith("com.ms.") if listed is None else (domain, kind) in listed
        # A name that is no text comes as bytes, and is nobody's.
        text = isinstance(kind, str) and isinstance(domain, str)
        if not there and (domain, kind) not in functions and not (text and onnx.defs.has(kind, domain)):
            return False
        return all(known(inner) for body in subgraphs(node) for inner in body.node)

    # A function that calls what is unknown is unknown itself, and so is one that calls that.
    while broken := [key for key, function in functions.items() if not all(map(known, function.node))]:
        for key in broken:
            del functions[key]
    return known


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _listed() -> set[tuple[str, str]] | None:
    """(domain, operator) of all that ONNX Runtime knows; None where it does not say, or is not there."""
    try:
        from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
    except ImportError:
        return None
    return {(schema.domain, schema.name) for schema in get_all_operator_schema()}
