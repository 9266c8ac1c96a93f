"""Captured programs in float64: run as a whole, or cut at the target layer.

Rounding is out of the way there, so that two gradients which differ are different gradients.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

from .outputs import by_class

__all__ = ["TailProgram", "run_in_float64", "values_of"]

aten = torch.ops.aten

# What only matters to autograd: the derivative is that of what the network computes.
_STOPS = {aten.detach.default, aten.detach_.default, aten.lift_fresh_copy.default}


def values_of(graph: fx.GraphModule, image: torch.Tensor, *nodes: fx.Node) -> list[torch.Tensor]:
    """What `nodes` hold when `graph` runs on `image` (N, C, H, W)."""
    return _run(fx.Interpreter, graph, image, nodes)


def run_in_float64(graph: fx.GraphModule, image: torch.Tensor, *nodes: fx.Node) -> list[torch.Tensor]:
    """The same in float64; each weight is widened while it is used, so that no second copy of them stays."""
    return _run(_Wide, graph, image.double(), nodes)


def _run(
    kind: type[fx.Interpreter], graph: fx.GraphModule, image: torch.Tensor, nodes: tuple[fx.Node, ...]
) -> list[torch.Tensor]:
    held: dict[fx.Node, Any] = dict.fromkeys(nodes)

    class Reader(kind):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n in held:
                held[n] = result
            return result

    with torch.no_grad():
        Reader(graph).run(image)
    return [held[node] for node in nodes]


class _Wide(fx.Interpreter):
    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _widened(super().get_attr(target, args, kwargs))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is aten.hardsigmoid.default:
            return _hardsigmoid(args[0])
        return super().call_function(target, _wide(args), _wide(kwargs))


def _hardsigmoid(value: torch.Tensor) -> torch.Tensor:
    """PyTorch's own kernel has the 1/6 of float32 in float64 too."""
    return ((value + 3) / 6).clamp(0, 1)


def _widened(tensor: Any) -> Any:
    return tensor.double() if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() else tensor


def _wide(argument: Any) -> Any:
    """Arguments of an operator as it gets them in float64.

    Numbers are what they are in float32, in which the network computes: 0.01 is not 0.01 there.
    """
    if isinstance(argument, list | tuple):
        return type(argument)(_wide(part) for part in argument)
    if isinstance(argument, dict):
        return {key: _wide(part) for key, part in argument.items()}
    if isinstance(argument, float):
        return float(torch.tensor(argument, dtype=torch.float32))
    return torch.float64 if argument is torch.float32 else argument


class TailProgram:
    """The part of a captured program from a target layer to the scores, for a fixed number of images.

    Attributes:
        program: takes the layer's value and those of `border`, and returns the scores; with the module's own weights.
        border: nodes of the captured graph that the part reads besides the layer.
    """

    def __init__(self, graph: fx.GraphModule, layer: fx.Node, score: fx.Node, images: int) -> None:
        self.border: list[fx.Node] = []
        self._graph, self._images = graph, images
        image = next(node for node in graph.graph.nodes if node.op == "placeholder")
        self._batch = image.meta["val"].shape[0].node.expr
        self._behind = _behind(layer, score)
        self._depends = _made_of_the_image(graph.graph)
        self._own, self._root = fx.Graph(), nn.Module()
        self._taken: dict[fx.Node, Any] = {layer: self._own.placeholder("layer")}
        self._own.output(self._take(score))
        self.program = fx.GraphModule(self._root, _placeholders_first(self._own))

    @property
    def inputs(self) -> list[str]:
        """Names of what the program takes."""
        return [str(node.target) for node in self.program.graph.nodes if node.op == "placeholder"]

    def gradient(self, layer: torch.Tensor, border: list[torch.Tensor], classes: torch.Tensor) -> torch.Tensor:
        """Gradient of each image's score of its class (N,) with respect to the layer's value, by autograd."""
        leaf = layer.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            picked = by_class(_Wide(self.program).run(leaf, *border)).gather(1, classes[:, None])
            (gradient,) = torch.autograd.grad(picked.sum(), leaf)
        return gradient

    def in_float64(self) -> fx.GraphModule:
        """The program with weights, and numbers in its code, in float64."""
        wide = copy.deepcopy(self.program.graph)
        for node in wide.nodes:
            node.args, node.kwargs = _wide(node.args), _wide(node.kwargs)
            if node.target is aten.hardsigmoid.default:
                node.target, node.args = _hardsigmoid, (node.args[0],)
        root = nn.Module()
        for name, tensor in self.program.named_buffers():
            root.register_buffer(name, _widened(tensor))
        return fx.GraphModule(root, wide)

    def _take(self, node: fx.Node) -> Any:
        """What `node` is in the part. Without recursion: networks are deeper than Python's stack."""
        waiting = [node]
        while waiting:
            current = waiting[-1]
            if current in self._taken:
                waiting.pop()
                continue
            value = current.meta.get("val")
            if isinstance(value, torch.SymInt | torch.SymFloat):
                known = value.node.expr.subs(self._batch, self._images)
                self._taken[current] = int(known) if isinstance(value, torch.SymInt) else float(known)
            elif current.op == "get_attr":
                self._taken[current] = self._own.get_attr(self._keep(str(current.target)))
            elif current not in self._behind and current in self._depends:
                self.border.append(current)
                self._taken[current] = self._own.placeholder(f"beside_{len(self.border)}")
            elif missing := [source for source in current.all_input_nodes if source not in self._taken]:
                waiting.extend(missing)
                continue
            else:
                self._taken[current] = self._copied(current)
            waiting.pop()
        return self._taken[node]

    def _copied(self, node: fx.Node) -> Any:
        args = fx.map_arg(node.args, self._taken.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self._taken.__getitem__)
        if node.target in _STOPS:
            return args[0]
        return self._own.create_node(node.op, node.target, args, kwargs, node.name)

    def _keep(self, name: str) -> str:
        value: Any = self._graph
        for part in name.split("."):
            value = getattr(value, part)
        own = name.replace(".", "_")
        if not hasattr(self._root, own):
            self._root.register_buffer(own, value.detach())
        return own


def _behind(layer: fx.Node, score: fx.Node) -> set[fx.Node]:
    """Nodes that depend on the layer."""
    found = {layer}
    for node in score.graph.nodes:
        if any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _made_of_the_image(graph: fx.Graph) -> set[fx.Node]:
    """Nodes whose numbers depend on the image; that its size enters does not count."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        held = not isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | int | float)
        if node.op == "placeholder" or (held and any(source in found for source in node.all_input_nodes)):
            found.add(node)
    return found


def _placeholders_first(graph: fx.Graph) -> fx.Graph:
    first = next(iter(graph.nodes))
    for node in [n for n in graph.nodes if n.op == "placeholder"]:
        if node is not first:
            first.append(node)
            first = node
    return graph
