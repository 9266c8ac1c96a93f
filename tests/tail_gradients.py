"""Gradients of small nets in float64, by the exporter's passes and by autograd, without a file being written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from cfcam.export.axes.layout import NCHW, Layout
from cfcam.export.proof.against_pytorch import _differentiated, _run
from cfcam.export.traced.capture import Captured
from cfcam.export.traced.float64 import TailProgram, run_in_float64
from numpy.typing import NDArray
from opened_modules import Opened, opened
from torch import Tensor, fx, nn

__all__ = ["Gradients", "assert_same", "captured_nodes", "gradients", "nodes_of", "operator_gradients"]

Operator = Callable[[Tensor], Tensor]


class Gradients(NamedTuple):
    """(N, C, H, W) in float64: what the exporter's passes give and what autograd gives, and the tail that was cut."""

    passes: NDArray[Any]
    autograd: NDArray[Any]
    tail: TailProgram


def captured_nodes(net: nn.Module, image: Tensor, layer: str | None = None) -> tuple[Captured, fx.Node, fx.Node]:
    """The program, its scores and a layer of it, which the converter may merge with others."""
    return nodes_of(opened(net, image), layer)


def nodes_of(module: Opened, layer: str | None = None) -> tuple[Captured, fx.Node, fx.Node]:
    """`captured_nodes` of a module that is opened already."""
    node = module.names.node(module.layer().name) if layer is None else module.node(layer)
    assert node is not None
    return module.captured, module.captured.outputs[module.position], node


def gradients(
    net: nn.Module, images: Tensor, classes: Tensor, layer: str | None = None, axes: Layout = NCHW
) -> Gradients:
    """Of the captured part behind `layer`, as the proof of an export takes them. axes: how the layer holds its grid."""
    captured, score, node = captured_nodes(net, images[:1], layer)
    tail = TailProgram(captured.graph, node, score, len(images))
    held, *border = run_in_float64(captured.graph, images, node, *tail.border)
    passes = _run(_differentiated(tail, [held, *border]), tail, [held, *border], classes)
    autograd = tail.gradient(held, border, classes).numpy()
    return Gradients(axes.to_nchw(passes), axes.to_nchw(autograd), tail)


class _Heads(nn.Module):
    """Score k reads what operator k makes of the layer: the gradient of class k is that of operator k alone."""

    def __init__(self, operators: list[Operator], layer: Tensor) -> None:
        super().__init__()
        self.operators = operators
        generator = torch.Generator().manual_seed(0)
        for number, operator in enumerate(operators):
            sizes = operator(layer).shape[1:]
            self.register_buffer(f"weights_{number}", torch.randn(sizes, generator=generator, dtype=layer.dtype))

    def forward(self, layer: Tensor) -> Tensor:
        scores = []
        for number, operator in enumerate(self.operators):
            result = operator(layer)
            scores.append((result * self.get_buffer(f"weights_{number}")).reshape(len(result), -1).sum(1))
        return torch.stack(scores, 1)


def operator_gradients(operators: Mapping[str, Operator], layer: Tensor) -> dict[str, tuple[NDArray[Any], Tensor]]:
    """Name -> gradients (2, C, H, W) through that operator, by the passes and by autograd, from one conversion.

    layer: what the operators read, (2, C, H, W) in float64.
    """
    # Each operator has images of its own: one run gives the gradients of all.
    net, images = _Heads(list(operators.values()), layer), layer.repeat(len(operators), 1, 1, 1)
    tail: Any = SimpleNamespace(in_float64=lambda: net, inputs=["layer"])
    classes = torch.arange(len(operators)).repeat_interleave(len(layer))
    passes = _run(_differentiated(tail, [images]), tail, [images], classes).reshape(-1, *layer.shape)
    found = {}
    for number, (name, operator) in enumerate(operators.items()):
        leaf = layer.clone().requires_grad_()
        (expected,) = torch.autograd.grad((operator(leaf) * net.get_buffer(f"weights_{number}")).sum(), leaf)
        found[name] = (passes[number], expected)
    return found


def assert_same(passes: NDArray[Any], autograd: Any, limit: float = 1e-8) -> None:
    """The limit of the exporter's own proof, and something that is not zero."""
    expected = np.asarray(autograd)
    largest = np.abs(expected).max()
    assert largest > 0, "zero would equal anything"
    np.testing.assert_allclose(passes, expected, rtol=0, atol=limit * largest)
