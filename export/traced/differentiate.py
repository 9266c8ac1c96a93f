"""Pass 4, differentiate: one graph for the forward pass and the backward pass of the tail.

The tape is cut at the target layer: everything before it runs without gradients, its
value becomes a leaf, and autograd goes from the logits back to that leaf and no further.
A further layer on the tape is a station on that way, which is gone once; one beside it is
a leaf of its own. Both directions are recorded at the level of ATen operators.

Before: a functional graph and some of its nodes. After: a graph
``(image, target, seed) -> (*outputs, activations, gradients, ..., chosen)``, with a pair for each
layer, in which `seed` (N, K) is still a free input: pass 5 replaces it by the chosen class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from ..axes.layout import Layout
from ..errors import ExportError, LayerError, UnsupportedOperatorError
from .decompositions import decomposition_table, restore_names
from .fold import set_tensor
from .forward import FORWARD
from .outputs import by_class

__all__ = ["differentiate"]

aten = torch.ops.aten


class _Cut(fx.Interpreter):
    """Runs a graph; from the first of `layers` on, with a tape that starts there."""

    def __init__(self, graph: fx.GraphModule, layers: Mapping[fx.Node, Layout], logits: fx.Node) -> None:
        super().__init__(graph)
        self._wanted, self._logits_node = layers, logits
        self.layers: dict[fx.Node, torch.Tensor] = {}
        self.logits: Any = None

    def run_node(self, n: fx.Node) -> Any:
        with torch.set_grad_enabled(bool(self.layers)):
            result = super().run_node(n)
            if n in self._wanted:
                # An alias, because what returns its input would give two layers one gradient.
                on_tape = result.requires_grad
                result = aten.alias.default(result) if on_tape else result.detach().requires_grad_(True)
                self.layers[n] = result
        if n is self._logits_node:
            self.logits = result
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        replacement: Any = FORWARD.get(target, target)
        return super().call_function(replacement, args, kwargs)


def differentiate(graph: fx.GraphModule, layers: Mapping[fx.Node, Layout], logits: fx.Node) -> fx.GraphModule:
    """Trace `graph` with the gradient of `logits` (N, K) with respect to each of `layers`.

    layers: node -> how it holds its grid. Activations and gradients leave as (N, C, H, W), whatever
    that is, in the order of `layers`.

    Raises `LayerError` when a layer does not reach the logits, `UnsupportedOperatorError`
    when an operator between them cannot be differentiated.
    """
    named = " and ".join(f"'{layer.name}'" for layer in layers)

    def run(image: torch.Tensor, target: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        interpreter = _Cut(graph, layers, logits)
        outputs = interpreter.run(image)
        with torch.enable_grad():  # whatever the caller's mode
            scores = by_class(interpreter.logits)
        if not scores.requires_grad:
            raise LayerError(f"layer {named} does not reach the score '{logits.name}'")
        values = [interpreter.layers[layer] for layer in layers]
        gradients = torch.autograd.grad(scores, values, seed, allow_unused=True)
        chosen = torch.where(target < 0, torch.argmax(scores, 1), target)
        planes: list[torch.Tensor] = []
        for (layer, layout), value, gradient in zip(layers.items(), values, gradients, strict=True):
            if gradient is None:
                raise LayerError(f"layer '{layer.name}' does not reach the score '{logits.name}'")
            planes += [layout.to_nchw(value.detach()), layout.to_nchw(gradient.detach())]
        return (*(v.detach() for v in outputs), *planes, chosen)

    image = next(node for node in graph.graph.nodes if node.op == "placeholder").meta["val"]
    classes = by_class(logits.meta["val"]).shape[1]
    with image.fake_mode:
        target = torch.empty(image.shape[0], dtype=torch.int64)
        seed = torch.empty(image.shape[0], classes, dtype=image.dtype)
    try:
        # Inside the fake mode: operators on weights alone may have a symbolic size too (class tokens).
        with image.fake_mode:
            joint = make_fx(run, _allow_non_fake_inputs=True, decomposition_table=decomposition_table())(
                image, target, seed
            )
    except ExportError:
        raise
    except NotImplementedError as error:
        raise UnsupportedOperatorError(f"the path from {named} to the score: {error}") from error
    except RuntimeError as error:
        raise ExportError(f"the path from {named} to the score cannot be traced: {error}") from error
    if isinstance(joint_batch := _result_shape(joint)[0], int):
        raise ExportError(
            f"the path from {named} to the score fixes the batch size (to {joint_batch} in the trace): "
            "an operator there reads the batch size as a number"
        )
    joint.graph.eliminate_dead_code()
    _refuse_writes(joint, named)
    restore_names(joint)
    _name_tensors(joint, graph)
    return joint


# Of a constant, and in the derivative of a norm.
_FRESH = {
    torch.ops.aten.detach_.default: torch.ops.aten.detach.default,
    torch.ops.aten.masked_fill_.Scalar: torch.ops.aten.masked_fill.Scalar,
}


def _refuse_writes(joint: fx.GraphModule, named: str) -> None:
    """The passes that follow take every node for a pure function: an operator that writes in place is none."""
    for node in joint.graph.nodes:
        # PyTorch's own derivatives do so where the argument is fresh and nobody else reads it.
        if node.target in _FRESH and len(node.args[0].users) == 1:
            node.target = _FRESH[node.target]
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            raise UnsupportedOperatorError(
                f"the path from {named} to the score: {node.target} writes into its argument; "
                "write the module's operator in another way, or choose a layer behind it"
            )


def _result_shape(joint: fx.GraphModule) -> torch.Size:
    (output,) = (node for node in joint.graph.nodes if node.op == "output")
    chosen = output.args[0][-1]
    return chosen.meta["val"].shape


def _name_tensors(joint: fx.GraphModule, source: fx.GraphModule) -> None:
    """Give the joint graph's constants the names that the weights have in the module."""
    known = {id(t): name for name, t in [*source.named_parameters(), *source.named_buffers()]}
    renamed: dict[str, str] = {}
    for node in joint.graph.nodes:
        if node.op == "get_attr":
            old = str(node.target)
            if old not in renamed:
                tensor = getattr(joint, old)
                renamed[old] = set_tensor(joint, known.get(id(tensor), f"constant{len(renamed)}"), tensor)
            node.target = renamed[old]
    for old in renamed:
        delattr(joint, old)
    joint.recompile()
