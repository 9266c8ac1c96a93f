"""What people call the values of a module, and which value of its plain ONNX export each name stands for.

A layer is a *value*, and has every name by which people know it:

1. the path of the module that returned it (``layer4.2``), with the call's index when the
   module is called more than once (``_swish:1``);
2. the name of the captured value itself (``hardtanh_32``), for what no module returns;
3. the name that it has in the plain ONNX export.

The converter counts names anew, merges operators and turns axes round. So a value is known by what it holds: the
captured program and the export run on the same images, and each of their values leaves a mark.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from ..errors import LayerError
from ..graph import Graph, value_info
from ..proof.images import structured_noise
from ..proof.session import Session, release_memory
from .capture import Captured
from .float64 import values_of
from .outputs import written_shape

__all__ = ["Names", "permuted"]

Mark = NDArray[np.float64]
_Key = TypeVar("_Key")

#: Images that tell values apart: one, since all values of the network are held at once.
_IMAGES = 1
#: By how much of their size the marks, or the contents, of one value may differ.
_SAME = 1e-3
#: ... where both sides have it under one name: depth may amplify rounding to this, and the proof judges the choice.
_NAMESAKE = 0.3
#: What rounding does to a mark.
_NOISE = 1e-5
#: Weights of the first numbers of a value, in which their order shows.
_WAVE = np.cos(0.7 * np.arange(2**16))
#: Operators that hold what they are given, perhaps in another shape: between their two values nothing is computed.
#: An average that changes nothing is one of single cells.
_SAME_VALUE = {
    "adaptive_avg_pool2d", "alias", "avg_pool2d", "clone", "contiguous", "detach", "dropout", "expand", "flatten",
    "native_dropout", "permute", "reshape", "squeeze", "to", "transpose", "unflatten", "unsqueeze", "view", "_to_copy",
    "_unsafe_view",
}  # fmt: skip
_SAME_VALUE_ONNX = {
    "AveragePool",
    "Cast",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
#: Candidates that an error lists.
_LISTED = 12


class Names:
    """The names of the values of `graph`, which is the opened plain export of `captured`.

    score: the value of the graph that is explained.
    """

    def __init__(self, captured: Captured, graph: Graph, score: str) -> None:
        self._captured, self._graph, self._score = captured, graph, score
        self._paths = _module_names(captured.graph.graph)
        _, channels, height, width = captured.image.meta["val"].shape
        self._images = torch.from_numpy(structured_noise(_IMAGES, channels, height, width)).float()
        held = self._held([name for name in graph.producers if graph.is_float(name) and graph.shape(name)])
        self._values = {name: _mark(array) for name, array in held.items()}
        del held
        release_memory()
        reader = _Marking(captured.graph)
        with torch.no_grad():
            reader.run(self._images)
        self._nodes = reader.marks

    def value(self, name: str) -> str:
        """The value of the export that `name` stands for.

        Raises `LayerError` with the nearest names and the candidates, for what cannot be a layer, and for a value
        that the converter merged with others, with the neighbours that the export has.
        """
        node = self._find(name)
        if node is None:
            if name in self._graph.producers or any(other.name == name for other in self._graph.nodes):
                return name
            near = difflib.get_close_matches(name, [path for paths in self._paths.values() for path in paths], 3, 0.5)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
            raise LayerError(f"the model has no layer '{name}'{hint} {self._listing()}")
        held = node.meta.get("val")
        if node not in _ancestors(self.nodes(self._score) or self._captured.outputs):
            raise LayerError(f"layer '{name}' does not reach the score. {self._listing()}")
        if not isinstance(held, torch.Tensor) or held.dim() not in (3, 4):
            expected = "a target layer has shape (N, C, H, W) with a grid"
            raise LayerError(f"layer '{name}' has shape {written_shape(held)}; {expected}. {self._listing()}")
        nearest = _nearest(node, self._nodes, self._values)
        if nearest:
            own = next((values for nodes, values in self._pairs(nearest) if node in nodes), nearest)
            return node.name if node.name in own else own[0]
        for value in self._values:
            if self._is_permuted(value, node):
                return value
        raise LayerError(
            f"layer '{name}' is no value of PyTorch's ONNX export: it was merged with others; neighbours that are: "
            f"{self._neighbours(node)}. {self._listing()}"
        )

    def nodes(self, value: str) -> list[fx.Node]:
        """The captured values that are this value of the export, in the order of computation."""
        nearest = _nearest(value, self._values, self._nodes)
        return nearest or [node for node in self._nodes if self._is_permuted(value, node)]

    def node(self, value: str) -> fx.Node | None:
        """The captured value from which the same is computed as from this value of the export; the last, of several.

        Others may hold the same numbers by chance (behind a convolution that does nothing, or a second ReLU): they are
        other names of it to people, but have gradients of their own.
        """
        nodes = self._own(value)
        sizes = sorted(map(str, (self._graph.shape(value) or ())[1:]))
        fitting = [node for node in nodes if sorted(map(str, node.meta["val"].shape[1:])) == sizes]
        return next(reversed(fitting or nodes), None)

    def shown(self, value: str, asked: str | None) -> str:
        """What a value of the export is called, which was asked for by this name, or is the default."""
        node = None if asked is None else self._find(asked)
        return self.all(value)[0] if node is None else (*self._paths.get(node, ()), node.name)[0]

    def all(self, value: str) -> tuple[str, ...]:
        """All names of a value of the export; first the one that is shown, the outermost module's."""
        names: list[str] = []
        for nodes in (self._own(value), self.nodes(value)):  # first its own
            paths = [path for node in nodes for path in self._paths.get(node, ())]
            names += [*sorted(paths, key=lambda path: path.count(".")), *(node.name for node in nodes)]
        return tuple(dict.fromkeys([*names, value]))

    def operator(self, value: str) -> str | None:
        """The ATen operator that makes a value, without its overload; of a tuple's item, that of the tuple."""
        for node in self.nodes(value):
            if "getitem" in str(node.target):
                node = node.all_input_nodes[0]
            return _operator(node)
        return None

    def _own(self, value: str) -> list[fx.Node]:
        """Those of its captured values from which the same is computed."""
        nodes = self.nodes(value)
        values = _nearest(nodes[-1], self._nodes, self._values) if len(nodes) > 1 else []
        return next((own for own, held in self._pairs(values) if value in held), nodes)

    def _pairs(self, values: list[str]) -> Iterator[tuple[list[fx.Node], list[str]]]:
        """Captured values that are the same value of the export each, of `values`, which all hold the same numbers."""
        if len(values) < 2:
            return
        nodes = self.nodes(values[0])
        ours = _unchanged(nodes, {n: n.all_input_nodes for n in nodes if _operator(n) in _SAME_VALUE})
        makers = {value: self._graph.producers[value] for value in values}
        theirs = _unchanged(values, {v: list(m.input) for v, m in makers.items() if m.op_type in _SAME_VALUE_ONNX})
        if len(ours) == len(theirs):  # in the order of computation
            yield from zip(ours, theirs, strict=True)
            return
        for held in theirs:
            yield [node for group in ours if {n.name for n in group} & {*held} for node in group] or nodes, held

    def _find(self, name: str) -> fx.Node | None:
        """The captured value that has this name."""
        names = {name, *([name[:-2]] if name.endswith(":0") else [])}  # an index on a module that is called once
        for node in self._captured.graph.graph.nodes:
            if node.op == "call_function" and names & {node.name, *self._paths.get(node, ())}:
                return node
        calls = [path for paths in self._paths.values() for path in paths if path.rpartition(":")[0] == name]
        if calls:
            raise LayerError(f"layer '{name}' is called {len(calls)} times: choose one of {', '.join(calls)}")
        return None

    def _is_permuted(self, value: str, node: fx.Node) -> bool:
        """Whether the two hold the same with their axes in another order."""
        mark = self._nodes.get(node)
        if mark is None or value not in self._values or _distance(self._values[value][:-1], mark[:-1]) >= _SAME:
            return False
        (have,) = self._held([value]).values()
        (wanted,) = values_of(self._captured.graph, self._images, node)
        return any(
            turned.shape == have.shape and np.abs(turned - have).max() <= _SAME * np.abs(have).max()
            for turned in permuted(wanted.numpy())
        )

    def _held(self, names: list[str]) -> dict[str, NDArray[Any]]:
        """What values of the export hold."""
        probe = self._graph.copy()
        probe.outputs = [value_info(self._graph, name) for name in names]
        session = Session(probe.to_model())
        return session.run({session.inputs[0]: self._images.numpy()})

    def _neighbours(self, node: fx.Node) -> str:
        """Names of the nearest values on both sides that the export has."""
        held = [n for n in self._nodes if _nearest(n, self._nodes, self._values)]
        order = {n: place for place, n in enumerate(self._captured.graph.graph.nodes)}
        before, behind = ([n for n in held if (order[n] < order[node]) is earlier] for earlier in (True, False))
        return ", ".join(f"'{(*self._paths.get(n, ()), n.name)[0]}'" for n in (*before[-1:], *behind[:1]))

    def _listing(self) -> str:
        """The last values that modules return and that have room for a grid: the deep ones are what people look for."""
        named = [
            (paths[0], node.meta["val"].shape[1:])
            for node, paths in self._paths.items()
            if node in self._nodes and node.meta["val"].dim() in (3, 4)
        ]
        shown = [f"{path} {'x'.join(map(str, sizes))}" for path, sizes in named[-_LISTED:]]
        earlier = f" ({len(named) - _LISTED} earlier ones left out)" if len(named) > _LISTED else ""
        return f"Candidates with their sizes{earlier}: {', '.join(shown)}"


class _Marking(fx.Interpreter):
    """Runs a program and keeps a mark of each of its values."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.marks: dict[fx.Node, Mark] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor) and result.is_floating_point():
            self.marks[n] = _mark(result.numpy())
        return result


def _mark(array: NDArray[Any]) -> Mark:
    """What tells a value: sizes, how large its numbers are, their mean and largest, in any order; one for the order."""
    flat = np.asarray(array, np.float64).reshape(-1)
    if not flat.size:
        return np.zeros(5)
    size = np.sqrt(flat @ flat / flat.size)
    first = flat[: _WAVE.size]
    order = first @ _WAVE[: first.size] / np.sqrt(first.size)
    sizes = hash(tuple(sorted(count for count in array.shape if count > 1))) % 2**52  # in any order too
    return np.array([sizes, size, flat.mean(), np.abs(flat).max(), order])


def _distance(one: Mark, other: Mark) -> float:
    """Between two marks, in units of their size; infinite where the sizes differ."""
    if one[0] != other[0] or not np.isfinite(one).all() or not np.isfinite(other).all():
        return float("inf")
    return float(np.abs(one[1:] - other[1:]).max() / (one[1] + 1e-30))


def _nearest(key: Any, own: Mapping[Any, Mark], others: Mapping[_Key, Mark]) -> list[_Key]:
    """Which of `others` hold what `key` among its `own` kind holds: several, where they hold the same numbers.

    Blocks whose branches are scaled by next to nothing, as many are before training, hold nearly the same: where
    there are as many of them on both sides, they belong together in the order of computation.
    """
    if key not in own:
        return []
    mark = own[key]
    here, there = ({k: m for k, m in marks.items() if _distance(mark, m) < _NOISE} for marks in (own, others))
    mine, theirs = (list(dict.fromkeys(m.tobytes() for m in marks.values())) for marks in (here, there))
    if len(mine) == len(theirs):
        wanted = theirs[mine.index(mark.tobytes())]
        return [k for k, m in there.items() if m.tobytes() == wanted]
    distances = {k: _distance(mark, m) for k, m in others.items()}
    least = min(distances.values(), default=_SAME)
    nearest = [k for k, distance in distances.items() if distance == least < _NAMESAKE]
    return nearest if least < _SAME else [k for k in nearest if str(k) == str(key)]


def _operator(node: fx.Node) -> str:
    """The ATen operator, without its overload."""
    return str(node.target).removeprefix("aten.").split(".")[0]


def _unchanged(values: Sequence[_Key], sources: Mapping[_Key, Sequence[_Key]]) -> list[list[_Key]]:
    """Values in groups, between which something is computed. sources: of those that only hold what they are given."""
    groups: list[list[_Key]] = []
    for value in values:
        group = next((group for group in groups if any(source in group for source in sources.get(value, ()))), None)
        if group is None:
            groups.append([value])
        else:
            group.append(value)
    return groups


def permuted(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """With channels last, or first."""
    if array.ndim == 4:
        yield array.transpose(0, 2, 3, 1)
        yield array.transpose(0, 3, 1, 2)
    if array.ndim == 3:
        yield array.transpose(0, 2, 1)


def _module_names(graph: fx.Graph) -> dict[fx.Node, tuple[str, ...]]:
    """For every node that a module call returns: the call's names, outermost first."""
    members: dict[str, list[fx.Node]] = defaultdict(list)
    paths: dict[str, str] = {}
    for node in graph.nodes:
        stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
        for call, (path, _) in stack.items():
            if path:
                members[call].append(node)
                paths[call] = path
    calls: dict[str, list[str]] = defaultdict(list)
    for call in members:  # in order of first appearance, which is the order of the calls
        calls[paths[call]].append(call)
    names: dict[fx.Node, list[str]] = defaultdict(list)
    for call, nodes in members.items():
        inside = set(nodes)
        returned = [
            n
            for n in nodes
            if any(user not in inside for user in n.users) and isinstance(n.meta.get("val"), torch.Tensor)
        ]
        if len(returned) == 1:
            path, order = paths[call], calls[paths[call]]
            names[returned[0]].append(path if len(order) == 1 else f"{path}:{order.index(call)}")
    return {node: tuple(sorted(found, key=lambda n: n.count("."))) for node, found in names.items()}


def _ancestors(nodes: list[fx.Node]) -> set[fx.Node]:
    """The nodes and everything that they are computed from."""
    found, queue = {*nodes}, [*nodes]
    while queue:
        for source in queue.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                queue.append(source)
    return found
