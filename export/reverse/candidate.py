"""One value of a graph that can be the target layer: how it holds its grid, and what is only assumed of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from onnx import NodeProto

from ..axes.layout import NCHW, Layout, raster
from ..axes.onnx_values import map_axes
from ..graph import Graph, Shape, attribute
from .score import Score

__all__ = ["REDUCTIONS", "Candidate", "Values", "reduced_axes"]

REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"}
# What makes features: it mixes channels, or places, by weights. Before the first of them there is only the image.
_MIXING = {
    "Attention", "Conv", "ConvInteger", "ConvTranspose", "DynamicQuantizeMatMul", "Einsum", "FusedConv", "FusedGemm",
    "FusedMatMul", "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MultiHeadAttention",
    "NhwcConv", "NhwcFusedConv", "QAttention", "QGemm", "QLinearConv", "QLinearMatMul", "RNN", "TransposeMatMul",
}  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A value that a map can be made of.

    name: of the value. node, operator: what makes it. axes: how the value, of this shape, holds its grid. depth:
    its place among the graph's nodes, 0 first. default: this is what is taken when none is named; why: the
    reason in words. assumed: the axes could not be followed from the image, and are what the shape looks like.
    """

    name: str
    node: str
    operator: str
    shape: Shape
    axes: Layout
    depth: int
    default: bool = False
    why: str = ""
    assumed: bool = False

    @property
    def layout(self) -> Literal["NCHW", "NHWC", "NTC"]:
        """The kind of `axes`."""
        return self.axes.kind

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.axes.grid(self.shape[1:])[0]

    @property
    def grid(self) -> tuple[int | None, int | None]:
        """(H, W); None for a size that is not fixed."""
        height, width = (d if isinstance(d, int) else None for d in self.axes.grid(self.shape[1:])[1:])
        return height, width

    @property
    def prefix_tokens(self) -> int:
        """Class and register tokens in front of the grid's (``NTC`` only)."""
        return self.axes.prefix


class Values:
    """The values of `graph` between the image and `score`, as candidates."""

    def __init__(self, graph: Graph, score: Score) -> None:
        self.graph, self.score = graph, score
        self.axes = map_axes(graph)
        self.on_way = graph.ancestors([score.value]) & graph.descendants(graph.input_names)
        self._depths = {output: depth for depth, node in enumerate(graph.nodes) for output in node.output if output}
        self._found: dict[str, Candidate | None] = {}

    def candidate(self, name: str) -> Candidate | None:
        """The value called `name` as a candidate; None when it has no grid that is known or can be assumed."""
        if name not in self._found:
            self._found[name] = self._candidate(name) if name in self._depths else None
        return self._found[name]

    def named(self, name: str) -> Candidate | None:
        """A candidate that somebody asks for by its name: its grid may be one that no place of the image is left in."""
        found = self.candidate(name)
        return found if found is not None or self.axes.has_place(name) else self._candidate(name, guess=True)

    @cached_property
    def features(self) -> set[str]:
        """Values that are more than the image in other numbers or in another order."""
        mixing = [node for node in self.graph.nodes if node.op_type in _MIXING]
        return self.graph.descendants([output for node in mixing for output in node.output if output])

    def _candidate(self, name: str, guess: bool = False) -> Candidate | None:
        shape = self.graph.shape(name)
        if shape is None or not self.graph.is_float(name) or len(shape) not in (3, 4):
            return None
        batch, ours = self.score.shape[0], shape[0]
        if isinstance(batch, int) and isinstance(ours, int) and batch != ours:
            return None
        axes, sizes, assumed = self.axes.layout(name), self.axes.sizes(name), self.axes.is_assumed(name)
        if axes is not None and sizes is not None:
            shape = (shape[0], *sizes[1:])
        elif guess or self.axes.is_lost(name):
            axes, assumed = _guessed(self.graph, name, shape), True
        if axes is None:
            return None
        node = self.graph.producers[name]
        return Candidate(name, node.name, node.op_type, shape, axes, self._depths[name], assumed=assumed)


def reduced_axes(graph: Graph, node: NodeProto, rank: int) -> list[int] | None:
    """The axes of a reduction of a value with `rank` of them, in order; None where they are no constants."""
    axes = graph.integers(node, "axes", 1)
    return None if axes is None else sorted(axis % rank for axis in axes)


def _guessed(graph: Graph, name: str, shape: Shape) -> Layout | None:
    """What a value of unknown axes looks like by its shape and its neighbours."""
    if len(shape) == 4:
        axes = Layout("NHWC") if _is_nhwc(graph, name, shape) else NCHW
        channels, *grid = axes.grid(shape[1:])
        # What has a single channel and a single row may as well be pooled, with its channels where columns would be.
        if grid == [1, 1] or (1 in grid and channels == 1):
            return None
    else:
        tokens = shape[1]
        side = math.isqrt(tokens) if isinstance(tokens, int) else 0
        axes = raster(side, side, tokens) if isinstance(tokens, int) else None
        if side < 2 or axes is None or axes.prefix > 8:
            return None
    return axes if isinstance(axes.grid(shape[1:])[0], int) else None


def _is_nhwc(graph: Graph, name: str, shape: Shape) -> bool:
    """True when the value is used, or was made, with its channels last."""
    for user in graph.consumers.get(name, ()):
        if user.op_type in REDUCTIONS and reduced_axes(graph, user, 4) == [1, 2]:
            return True
        if user.op_type == "Transpose" and attribute(user, "perm") and list(attribute(user, "perm")) == [0, 3, 1, 2]:
            return True
        if (user.op_type == "MatMul" and user.input[0] == name) or user.op_type == "LayerNormalization":
            return True
    maker = graph.producers.get(name)
    made = maker is not None and maker.op_type == "Transpose" and list(attribute(maker, "perm", [])) == [0, 2, 3, 1]
    square = shape[1] == shape[2] and shape[2] != shape[3]
    return made and square
