"""Pass 2, values: which value of the captured graph is the target layer.

A layer is a *value*, and has every name by which people know it:

1. the path of the module that returned it (``layer4.2``), with the call's index when the
   module is called more than once (``_swish:1``);
2. the name of the traced value itself (``hardtanh_32``), for what no module returns.

The default is the value that enters the last spatial pooling or flatten before the score,
after its non-linearity, whatever produced it. Where the score is read off a class token,
the last blocks' patch tokens no longer reach it: there the default is the value that
enters the last block in which tokens are mixed (its residual stream, before that block's norm).
"""

from __future__ import annotations

import difflib
import operator
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from ..axes.layout import NCHW, Layout, raster
from ..errors import ExportError, LayerError
from .capture import Captured

__all__ = ["Score", "Value", "candidates", "default_value", "find_score", "resolve_value"]

aten = torch.ops.aten

# Operators in which tokens read each other.
_ATTENTION = {aten.scaled_dot_product_attention.default, aten.softmax.int, aten._softmax.default}

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


# How keys and values are taken out of one projection.
_PARTS = {
    operator.getitem,
    aten.unbind.int,
    aten.chunk.default,
    aten.split.Tensor,
    aten.select.int,
    aten.permute.default,
    aten.transpose.int,
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
    """One possible target layer. `names` starts with the one that is shown.

    shape: (C, H, W) as it leaves the file. layout: how the model holds it.
    """

    node: fx.Node
    names: tuple[str, ...]
    shape: tuple[int, int, int]
    pooled: bool
    layout: Layout = NCHW

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def operator(self) -> str:
        """The ATen operator that makes the value, without its overload."""
        return str(self.node.target).removeprefix("aten.").split(".")[0]


def find_score(captured: Captured, position: int | str | None = None, multi_label: bool = False) -> Score:
    """The class scores (N, K) and the logits behind them.

    position: which of the module's outputs, by its place or the name that it has there; None takes the one
    called "logits", or the first of shape (N, K), (N, K, 1, 1), or (N,) for a single class.
    multi_label: logits are of independent classes.
    Raises `ExportError` when no output has that shape.
    """
    outputs = captured.outputs
    if isinstance(position, str):
        if position not in captured.output_names:
            names = ", ".join(repr(name) for name in captured.output_names if name) or "none has a name"
            raise ExportError(
                f"score output '{position}': the model has no such output ({names}); its place will do too"
            )
        position = captured.output_names.index(position)
    if position is not None and not 0 <= position < len(outputs):
        raise ExportError(f"score output {position}: the model has {len(outputs)} outputs (0 to {len(outputs) - 1})")
    chosen = list(range(len(outputs))) if position is None else [position]
    if position is None and len(captured.output_names) == len(outputs):
        # Beside the scores there may be features or auxiliary heads of the same shape.
        chosen.sort(key=lambda index: (captured.output_names[index] != "logits", _fake(outputs[index]).dim() < 2))
    for index in chosen:
        output = outputs[index]
        classes = _class_count(output)
        if classes is not None and _fake(output).is_floating_point():
            node, kind = _logits_behind(output)
            if multi_label and kind == "softmax":
                raise ExportError("multi_label: the model ends in a softmax, its classes exclude each other")
            if kind == "logits" and (multi_label or classes == 1):
                kind = "binary"
            return Score(node, output, index, kind, classes)
    shapes = ", ".join(f"{i}: {_shape_text(node)}" for i, node in enumerate(outputs))
    raise ExportError(
        f"no output looks like class scores of shape (N, classes); the model returns {shapes}. "
        "cfcam explains classifiers: wrap the module so that it returns its class scores"
    )


def candidates(captured: Captured, score: Score, grid: tuple[int, int] | None = None) -> list[Value]:
    """Every value with a grid that the score depends on, in order of computation.

    grid: (H, W) of values (N, T, C) whose tokens could not be followed back to the image;
    they are taken to be in reading order, behind class and register tokens.
    """
    wanted = _ancestors(score.node)
    names = _module_names(captured.graph.graph)
    found = []
    for node in captured.graph.graph.nodes:
        if node.op != "call_function" or node not in wanted:
            continue
        layout = _layout(captured, node, grid)
        sizes = _static_sizes(node)
        if layout is not None and sizes is not None:
            aliases = (*names.get(node, ()), node.name)
            pooled = _enters_global_pooling(node, wanted, layout)
            found.append(Value(node, aliases, layout.grid(sizes), pooled, layout))
    return found


def default_value(captured: Captured, score: Score, grid: tuple[int, int] | None = None) -> Value:
    """The value that enters the last spatial pooling or flatten. Raises `LayerError`.

    Behind a class token it is the value that enters the last attention block instead.
    """
    values = {value.node: value for value in candidates(captured, score, grid)}
    wanted = _ancestors(score.node)
    for node in reversed(captured.graph.graph.nodes):
        if node in wanted and node.op == "call_function" and node not in values and _is_tensor(node):
            for source in node.all_input_nodes:
                if source not in values:
                    continue
                if _only_prefix_is_read(values[source], wanted):
                    return _before_last_attention(captured, values, source, score)
                found = values[_before_identity_pooling(source, values)]
                return _before_slice(_before_projection(found, values), values)
    hint = "" if grid is not None else "; for tokens (N, T, C) in reading order give their grid (grid=(H, W))"
    raise LayerError(
        f"no value enters a pooling or flatten on the way to the score: name the target layer (layer=...){hint}. "
        + _listing(list(values.values()))
    )


def resolve_value(captured: Captured, score: Score, name: str | None, grid: tuple[int, int] | None = None) -> Value:
    """The `Value` called `name`, or the default for None. grid: see `candidates`.

    Raises `LayerError` with the nearest names and the candidates with their shapes.
    """
    if name is None:
        return default_value(captured, score, grid)
    values = candidates(captured, score, grid)
    for value in values:
        if name in value.names:
            if grid is not None and value.shape[1:] != tuple(grid):
                raise LayerError(f"layer '{name}' has a grid of {value.shape[1]}x{value.shape[2]}, not {grid}")
            return value
    known = [alias for value in values for alias in value.names]
    path, _, index = name.rpartition(":")
    if index == "0" and path in known:  # an index on a module that is called once
        return resolve_value(captured, score, path, grid)
    calls = [alias for alias in known if alias.rpartition(":")[0] == name]
    if calls:
        raise LayerError(f"layer '{name}' is called {len(calls)} times: choose one of {', '.join(calls)}")
    wanted = _ancestors(score.node)
    for node in captured.graph.graph.nodes:
        if node.name == name or name in _module_names(captured.graph.graph).get(node, ()):
            sizes = _static_sizes(node)
            if captured.axes.layout(node) is not None and node not in wanted:
                reason = "does not reach the score"
            elif sizes is not None and len(sizes) == 2:
                tokens = "" if grid is None else f", too few tokens for a grid of {grid[0]}x{grid[1]}"
                reason = (
                    f"has shape {_shape_text(node)}{tokens}; the place of its tokens in the image is not known: "
                    "if they are in reading order, give their grid (grid=(H, W))"
                )
            else:
                reason = f"has shape {_shape_text(node)}; a target layer has shape (N, C, H, W) with a grid"
            raise LayerError(f"layer '{name}' {reason}. {_listing(values)}")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else "."
    raise LayerError(f"the model has no layer '{name}'{hint} {_listing(values)}")


def _layout(captured: Captured, node: fx.Node, grid: tuple[int, int] | None) -> Layout | None:
    sizes = _static_sizes(node)
    if sizes is None or not _fake(node).is_floating_point():
        return None
    layout = captured.axes.layout(node)
    if layout is None and grid is not None and len(sizes) == 2:
        return raster(*grid, sizes[0])
    return layout


def _only_prefix_is_read(value: Value, wanted: set[fx.Node]) -> bool:
    """Whether everything that the score reads of `value` are class or register tokens."""
    prefix = value.layout.prefix
    users = [user for user in value.node.users if user in wanted and _is_tensor(user)]
    return bool(prefix and users) and all(_reads_before(user, prefix) for user in users)


def _reads_before(node: fx.Node, prefix: int) -> bool:
    arguments = node.args[1:]
    if node.target is aten.select.int:
        return arguments[0] == 1 and 0 <= int(arguments[1]) < prefix  # type: ignore[arg-type]
    if node.target is aten.slice.Tensor and len(arguments) >= 3 and arguments[0] == 1:
        start, end = arguments[1] or 0, arguments[2]
        return isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= prefix
    return False


def _before_last_attention(captured: Captured, values: dict[fx.Node, Value], read: fx.Node, score: Score) -> Value:
    """The last value that enters the last attention and that nothing of the image goes round: its residual stream."""
    behind = _ancestors(read)
    attentions = [n for n in captured.graph.graph.nodes if n in behind and n.target in _ATTENTION]
    if not attentions:
        raise LayerError(
            f"the score is read off a class token of '{values[read].name}', and no attention mixes the others into "
            "it: name the target layer (layer=...). " + _listing(list(values.values()))
        )
    enters = _ancestors(attentions[-1])
    for node in reversed(captured.graph.graph.nodes):
        if node in values and node in enters and _is_unavoidable(node, captured.image, score):
            return values[node]
    return values[read]


def _is_unavoidable(node: fx.Node, image: fx.Node, score: Score) -> bool:
    """Whether every way of tensors from the image to the score passes `node` (sizes reach everything)."""
    seen, queue = {node, score.node}, [score.node]
    while queue:
        for source in queue.pop().all_input_nodes:
            if source not in seen and _is_tensor(source):
                seen.add(source)
                queue.append(source)
    return image not in seen


def _before_projection(value: Value, values: dict[fx.Node, Value]) -> Value:
    """Keys and values of an attention pooling are features of what they are projected from."""
    node: Any = value.node
    while node.target in _PARTS or node.target in _RESHAPES:
        node = node.args[0]
    source = node.args[0] if node.target is aten.linear.default else None
    return values[source] if source in values and _reaches(node, _ATTENTION) else value


def _before_slice(value: Value, values: dict[fx.Node, Value]) -> Value:
    """Setting prefix tokens aside is what the export does too: take the value that still has them, and a name."""
    while value.node.target is aten.slice.Tensor:
        source = value.node.args[0]
        if source not in values or values[source].shape != value.shape:  # type: ignore[index]
            break
        value = values[source]  # type: ignore[index]
    return value


def _reaches(node: fx.Node, targets: set[Any]) -> bool:
    seen, queue = {node}, [node]
    while queue:
        for user in queue.pop().users:
            if user.target in targets:
                return True
            if user not in seen:
                seen.add(user)
                queue.append(user)
    return False


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
    # Reshapes are only looked through; the score itself stays (N, K), (N, K, 1, 1) or (N,).
    if _class_count(output) is None:
        raise ExportError(f"the logits before the final {kind} have shape {_shape_text(output)}, expected (N, classes)")
    return output, kind


def _class_count(node: fx.Node) -> int | None:
    """K of (N, K) with any axes of 1 behind, 1 of (N,), and None of every other shape."""
    sizes = _static_sizes(node)
    if sizes is None or any(size != 1 for size in sizes[1:]):
        return None
    return sizes[0] if sizes else 1


def _before_identity_pooling(node: fx.Node, values: dict[fx.Node, Value]) -> fx.Node:
    """An adaptive pooling to the size it already has changes nothing: step over it."""
    source = node.all_input_nodes[0] if node.all_input_nodes else node
    is_pooling = node.target in (aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default)
    if is_pooling and source in values and values[source].shape == values[node].shape:
        return source
    return node


def _enters_global_pooling(node: fx.Node, wanted: set[fx.Node], layout: Layout) -> bool:
    """Whether all that the score sees of `node` is its mean over the grid."""
    users = [user for user in node.users if user in wanted and _is_tensor(user)]
    return bool(users) and all(_is_global_average(user, node, layout) for user in users)


def _is_global_average(node: fx.Node, source: fx.Node, layout: Layout) -> bool:
    if node.target is aten.mean.dim:
        rank = _fake(source).dim()
        return sorted(d % rank for d in node.args[1]) == list(layout.grid_axes)  # type: ignore[union-attr]
    if node.target is aten.slice.Tensor and _keeps_the_grid(node, source, layout):
        if _static_sizes(node) != _static_sizes(source):
            layout = replace(layout, prefix=0, suffix=0)
        users = [user for user in node.users if _is_tensor(user)]
        return bool(users) and all(_is_global_average(user, node, layout) for user in users)
    if node.target is aten.transpose.int and layout.kind == "NTC" and {d % 3 for d in node.args[1:]} == {1, 2}:  # type: ignore[operator]
        one_cell = [u.target is aten.adaptive_avg_pool1d.default and u.args[1] == [1] for u in node.users]
        return bool(one_cell) and all(one_cell)
    if layout.kind != "NCHW":
        return False
    if node.target in (aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default):
        return list(node.args[1]) == [1, 1]  # type: ignore[arg-type]
    if node.target is aten.avg_pool2d.default:
        sizes = _static_sizes(node)
        return sizes is not None and sizes[1:] == (1, 1)
    return False


def _keeps_the_grid(node: fx.Node, source: fx.Node, layout: Layout) -> bool:
    """Whether a slice drops nothing, or just the tokens before and behind the grid."""
    sizes, before = _static_sizes(node), _static_sizes(source)
    if sizes == before:
        return True
    if layout.kind != "NTC" or sizes is None or before is None or len(node.args) < 3 or node.args[1] != 1:
        return False
    start: Any = node.args[2]
    return bool(sizes[0] == before[0] - layout.prefix - layout.suffix and (start or 0) == layout.prefix)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """`node` and everything that it is computed from."""
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


def _shape_text(node: fx.Node) -> str:
    if not _is_tensor(node):
        return "of no tensor"
    sizes = ["N" if not isinstance(size, int) else str(size) for size in _fake(node).shape]
    return f"({', '.join(sizes)})"
