"""The nodes of a network that INT8 makes faster, in order, and what each of them costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import NodeProto

from ...export.errors import ExportError
from ...export.graph import Graph, attribute, load_model, open_graph
from ...export.precision.plain_model import plain_model
from ...runtime.checks import did_you_mean
from ...runtime.contract.spec import CamSpec

__all__ = ["Node", "Nodes", "read_nodes", "refuse_unknown_nodes"]

_MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Node:
    """name: as precision plans take it. macs: multiplications with a weight for one image."""

    name: str
    macs: int


@dataclass(frozen=True)
class Nodes:
    """all: in the order of computation. ends: the first and the last. near_layers: those that make and that first read
    the values of target layers and detail layer. first_convolution: its name, or nothing.
    """

    all: tuple[Node, ...]
    ends: tuple[str, ...]
    near_layers: tuple[str, ...]
    first_convolution: tuple[str, ...] = ()

    def quantised_share(self, float_nodes: Iterable[str]) -> float:
        """Share of the multiplications that are left to INT8."""
        kept = set(float_nodes)
        whole = sum(node.macs for node in self.all)
        return sum(node.macs for node in self.all if node.name not in kept) / whole if whole else 0.0

    def groups(self, count: int) -> list[tuple[str, ...]]:
        """The nodes in `count` stretches of the network, or one for each where there are fewer."""
        names = [node.name for node in self.all]
        count = min(count, len(names))
        bounds = [round(i * len(names) / count) for i in range(count + 1)] if count else []
        return [tuple(names[a:b]) for a, b in itertools.pairwise(bounds)]


def read_nodes(source: Path, spec: CamSpec) -> Nodes:
    """Of the plain network inside the explained file `source`. Raises `ModelFileError`, `LayerError`."""
    plain = plain_model(load_model(source), spec)
    graph, _ = open_graph(plain.model)
    chosen = [
        node
        for node in graph.nodes
        if node.op_type in _MULTIPLYING and any(graph.constant(name) is not None for name in node.input[:2])
    ]
    found = tuple(Node(node.name, _macs(graph, node)) for node in chosen)
    order = {node.output[0]: node.name for node in chosen}
    ends = tuple(dict.fromkeys([found[0].name, found[-1].name])) if found else ()
    shown = [*plain.layers, *(() if plain.detail is None else plain.detail[:1])]
    near = [name for back in (True, False) for name in _nearest(graph, shown, order, back)]
    convolutions = [node.name for node in chosen if node.op_type == "Conv"]
    return Nodes(found, ends, tuple(dict.fromkeys(near)), tuple(convolutions[:1]))


def refuse_unknown_nodes(source: Path, spec: CamSpec, names: Sequence[str]) -> None:
    """Raise `ExportError` where a plan names nodes that the plain network inside the explained file has not."""
    if not names:
        return
    model = plain_model(load_model(source), spec).model
    known = {node.name for node in (*model.graph.node, *open_graph(model)[0].nodes)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ExportError(
            f"quantisation.float_nodes: {source.name} has no node '{unknown[0]}'{did_you_mean(unknown[0], known)} "
            f"Names are those of the plain network, such as {', '.join(sorted(known)[:3])}"
        )


def _macs(graph: Graph, node: NodeProto) -> int:
    """Each element of the output sums as many products as the weight has per output channel."""
    weight = next(array for name in node.input[:2] if (array := graph.constant(name)) is not None)
    if node.op_type in ("Conv", "ConvTranspose"):
        products = math.prod(weight.shape[1:])
    else:
        products = weight.shape[1] if attribute(node, "transB", 0) else weight.shape[max(weight.ndim - 2, 0)]
    # Each element of a transposed convolution's input goes to all of them.
    places = graph.shape(node.input[0] if node.op_type == "ConvTranspose" else node.output[0])
    return products * math.prod(size for size in (places or ())[1:] if isinstance(size, int))


def _nearest(graph: Graph, values: Sequence[str], order: dict[str, str], back: bool) -> list[str]:
    """The first of the nodes in `order` (output -> name) that are met from `values`, against or along the flow."""
    found, seen, waiting = [], set(), list(values)
    while waiting:
        value = waiting.pop()
        maker = graph.producers.get(value)
        for node in ([maker] if maker is not None else []) if back else graph.consumers.get(value, []):
            if node.output[0] in order:
                found.append(order[node.output[0]])
            elif node.name not in seen:
                seen.add(node.name)
                waiting.extend(node.input if back else node.output)
    return found
