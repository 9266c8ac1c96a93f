"""Pass 2, values: which value of the captured graph is the target layer.

A layer is a *value*, and has every name by which people know it:

1. the path of the module that returned it (``layer4.2``), with the call's index when the
   module is called more than once (``_swish:1``);
2. the name of the traced value itself (``hardtanh_32``), for what no module returns.

The default is the value that enters the last spatial pooling or flatten before the score,
after its non-linearity, whatever produced it.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ..errors import ExportError, LayerError
from .capture import Captured

__all__ = ["Score", "Value", "candidates", "default_value", "find_score", "resolve_value"]

aten = torch.ops.aten

# Operators that a score is looked for behind: the final non-linearity, and changes of shape.
_FINAL = {
    aten.softmax.int: "softmax",
    aten._softmax.default: "softmax",
    aten.log_softmax.int: "logits",
    aten._log_softmax.default: "logits",
    aten.sigmoid.default: "sigmoid",
}
_RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.clone.default,
    aten.alias.default,
    aten.dropout.default,
    aten.contiguous.default,
}


@dataclass(frozen=True)
class Score:
    """What is differentiated: the logits' node (N, K), and what the shown output holds."""

    node: fx.Node
    output: fx.Node
    position: int
    kind: str
    classes: int


@dataclass(frozen=True)
class Value:
    """One possible target layer. `names` starts with the one that is shown."""

    node: fx.Node
    names: tuple[str, ...]
    shape: tuple[int, int, int]
    pooled: bool

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def operator(self) -> str:
        """The ATen operator that makes the value, without its overload."""
        return str(self.node.target).removeprefix("aten.").split(".")[0]


def find_score(captured: Captured, position: int | None = None) -> Score:
    """The class scores (N, K) and the logits behind them.

    position: which of the module's outputs; None takes the first of shape (N, K).
    Raises `ExportError` when no output has that shape.
    """
    outputs = captured.outputs
    chosen = range(len(outputs)) if position is None else [position]
    for index in chosen:
        if not 0 <= index < len(outputs):
            raise ExportError(f"score output {index}: the model has {len(outputs)} outputs (0 to {len(outputs) - 1})")
        output = outputs[index]
        sizes = _static_sizes(output)
        if sizes is not None and len(sizes) == 1 and _fake(output).is_floating_point():
            node, kind = _logits_behind(output)
            if kind in ("logits", "sigmoid") and sizes[0] == 1:
                kind = "binary"
            return Score(node, output, index, kind, sizes[0])
    shapes = ", ".join(f"{i}: {_shape_text(node)}" for i, node in enumerate(outputs))
    raise ExportError(
        f"no output looks like class scores of shape (N, classes); the model returns {shapes}. "
        "cfcam explains classifiers: wrap the module so that it returns its class scores"
    )


def candidates(captured: Captured, score: Score) -> list[Value]:
    """Every value (N, C, H, W) with a grid that the score depends on, in order of computation."""
    wanted = _ancestors(score.node)
    names = _module_names(captured.graph.graph)
    found = []
    for node in captured.graph.graph.nodes:
        shape = _grid_shape(node)
        if node.op == "call_function" and node in wanted and shape is not None:
            aliases = (*names.get(node, ()), node.name)
            found.append(Value(node, aliases, shape, _enters_global_pooling(node, wanted)))
    return found


def default_value(captured: Captured, score: Score) -> Value:
    """The value that enters the last spatial pooling or flatten. Raises `LayerError`."""
    values = {value.node: value for value in candidates(captured, score)}
    wanted = _ancestors(score.node)
    for node in reversed(captured.graph.graph.nodes):
        if node in wanted and node.op == "call_function" and _grid_shape(node) is None:
            for source in node.all_input_nodes:
                if source in values and _is_tensor(node):
                    return values[_before_identity_pooling(source)]
    raise LayerError(
        "no value enters a pooling or flatten on the way to the score: name the target layer (layer=...). "
        + _listing(list(values.values()))
    )


def resolve_value(captured: Captured, score: Score, name: str | None) -> Value:
    """The `Value` called `name`, or the default for None.

    Raises `LayerError` with the nearest names and the candidates with their shapes.
    """
    if name is None:
        return default_value(captured, score)
    values = candidates(captured, score)
    for value in values:
        if name in value.names:
            return value
    known = [alias for value in values for alias in value.names]
    path, _, index = name.rpartition(":")
    if index == "0" and path in known:  # an index on a module that is called once
        return resolve_value(captured, score, path)
    calls = [alias for alias in known if alias.rpartition(":")[0] == name]
    if calls:
        raise LayerError(f"layer '{name}' is called {len(calls)} times: choose one of {', '.join(calls)}")
    for node in captured.graph.graph.nodes:
        if node.name == name or name in _module_names(captured.graph.graph).get(node, ()):
            if _grid_shape(node) is None:
                reason = f"has shape {_shape_text(node)}; a target layer has shape (N, C, H, W) with a grid"
            else:
                reason = "does not reach the score"
            raise LayerError(f"layer '{name}' {reason}. {_listing(values)}")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else "."
    raise LayerError(f"the model has no layer '{name}'{hint} {_listing(values)}")


def _listing(values: list[Value], limit: int = 12) -> str:
    """The last candidates with their shapes: the deep ones are what people look for."""
    shown = [f"{v.name} {'x'.join(map(str, v.shape))}" for v in values[-limit:]]
    earlier = f" ({len(values) - limit} earlier ones left out)" if len(values) > limit else ""
    return f"Candidates, channels x grid{earlier}: {', '.join(shown)}"


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
        returned = [n for n in nodes if any(user not in inside for user in n.users) and _is_tensor(n)]
        if len(returned) == 1:
            path, order = paths[call], calls[paths[call]]
            names[returned[0]].append(path if len(order) == 1 else f"{path}:{order.index(call)}")
    return {node: tuple(sorted(found, key=lambda n: n.count("."))) for node, found in names.items()}


def _logits_behind(output: fx.Node) -> tuple[fx.Node, str]:
    """Walk back through reshapes and one final softmax or sigmoid."""
    node, kind = output, "logits"
    while node.op == "call_function":
        if node.target in _FINAL and kind == "logits":
            kind = _FINAL[node.target]  # type: ignore[index]
            output = node = node.all_input_nodes[0]
            if kind == "logits":  # log-softmax: softmax of it is softmax of the logits
                break
        elif node.target in _RESHAPES:
            node = node.all_input_nodes[0]
        else:
            break
    sizes = _static_sizes(output)
    # Reshapes are only looked through; the score itself stays (N, K) or (N, K, 1, 1).
    if sizes is None or any(size != 1 for size in sizes[1:]):
        raise ExportError(f"the logits before the final {kind} have shape {_shape_text(output)}, expected (N, classes)")
    return output, kind


def _before_identity_pooling(node: fx.Node) -> fx.Node:
    """An adaptive pooling to the size it already has changes nothing: step over it."""
    source = node.all_input_nodes[0] if node.all_input_nodes else node
    is_pooling = node.target in (aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default)
    if is_pooling and _grid_shape(source) == _grid_shape(node):
        return source
    return node


def _enters_global_pooling(node: fx.Node, wanted: set[fx.Node]) -> bool:
    """Whether all that the score sees of `node` is its mean over the grid."""
    users = [user for user in node.users if user in wanted and _is_tensor(user)]
    return bool(users) and all(_is_global_average(user) for user in users)


def _is_global_average(node: fx.Node) -> bool:
    if node.target in (aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default):
        return list(node.args[1]) == [1, 1]  # type: ignore[arg-type]
    if node.target is aten.mean.dim:
        return sorted(d % 4 for d in node.args[1]) == [2, 3]  # type: ignore[union-attr]
    if node.target is aten.avg_pool2d.default:
        source = _grid_shape(node.all_input_nodes[0])
        sizes = _static_sizes(node)
        return source is not None and sizes is not None and sizes[1:] == (1, 1)
    return False


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, queue = {node}, [node]
    while queue:
        for source in queue.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                queue.append(source)
    return found


def _fake(node: fx.Node) -> torch.Tensor:
    return node.meta["val"]


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _static_sizes(node: fx.Node) -> tuple[int, ...] | None:
    """Sizes without the batch, or None when `node` is no batched tensor of fixed sizes."""
    if not _is_tensor(node) or _fake(node).dim() < 1:
        return None
    batch, *others = _fake(node).shape
    if isinstance(batch, int) or not all(isinstance(size, int) for size in others):
        return None
    return tuple(others)


def _grid_shape(node: fx.Node) -> tuple[int, int, int] | None:
    sizes = _static_sizes(node)
    if sizes is None or len(sizes) != 3 or sizes[1] * sizes[2] == 1 or not _fake(node).is_floating_point():
        return None
    return (sizes[0], sizes[1], sizes[2])


def _shape_text(node: fx.Node) -> str:
    if not _is_tensor(node):
        return "of no tensor"
    sizes = ["N" if not isinstance(size, int) else str(size) for size in _fake(node).shape]
    return f"({', '.join(sizes)})"
