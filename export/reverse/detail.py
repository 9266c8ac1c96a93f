"""The detail layer: a finer value in front of the target layer, whose activations sharpen the map.

No gradient is taken there, so that it needs no rules and no tail; it must say where something is. Values behind a
non-linearity do: a channel that is zero saw nothing. The signed sums that leave residual blocks do not, and lose most
of the gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto

from ..axes.layout import Layout
from ..errors import LayerError
from ..graph import Graph
from .candidates import Candidate, candidates, choose_layer
from .score import Score

__all__ = ["AUTO", "NONE", "choose_detail", "detail_asked", "find_detail"]

#: What `choose_detail` takes instead of a name.
AUTO, NONE = "auto", "none"

#: How much finer than the target layer, along an axis: "about twice".
_LEAST, _MOST = 1.5, 2.7
#: Fewer channels than that are masks, not features.
_FEWEST = 8

_NON_LINEAR = {
    "Relu", "PRelu", "Elu", "Celu", "Selu", "LeakyRelu", "ThresholdedRelu", "Clip", "HardSwish", "Swish", "Mish",
    "Gelu", "FastGelu", "QuickGelu", "BiasGelu", "Softplus", "Sigmoid", "HardSigmoid", "Tanh",
}  # fmt: skip
#: What leaves an activated value activated.
_KEEPING = {
    "Identity", "Cast", "Dropout", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "MaxPool",
    "AveragePool", "QuantizeLinear", "DequantizeLinear", "Concat",
}  # fmt: skip
#: What a non-linearity that is written out (x * sigmoid(x), GELU by Erf) may be made of, beside constants.
_WRITTEN_OUT = {
    "Mul", "Div", "Add", "Sub", "Pow", "Neg", "Exp", "Reciprocal", "Erf", "Tanh", "Sigmoid", "HardSigmoid", "Softplus",
    "Clip", "Relu", "Cast", "Min", "Max",
}  # fmt: skip
_CURVED = {"Erf", "Tanh", "Sigmoid", "HardSigmoid", "Softplus", "Clip", "Relu", "Exp", "Min", "Max"}


def detail_asked(asked: str | None, layers: Sequence[object]) -> str:
    """What is taken where nothing is `asked`: a detail layer for a single target layer, and none for several."""
    return asked or (AUTO if len(layers) == 1 else NONE)


def choose_detail(
    graph: Graph,
    score: Score,
    layer: Candidate,
    asked: str | tuple[str, Layout] | Candidate | None,
    shown: Callable[[str], str] = str,
) -> tuple[Candidate | None, str | None]:
    """The detail layer that is asked for, and what there is to say about it.

    Args:
        graph: opened. layer: the target layer.
        asked: the name of a value or node, with its layout where that is known; `AUTO`, or `NONE` (also None); or what
            was chosen already.
        shown: from a value's name to what people call it.

    Raises:
        LayerError: there is no such value, it has no grid, is not finer than the target layer, or does not feed it.
    """
    if asked is None or asked == NONE:
        return None, None
    if isinstance(asked, Candidate):
        return asked, None
    if asked == AUTO:
        detail = find_detail(graph, layer, candidates(graph, score))
        if detail is None:
            note = (
                "no detail layer: no value behind a non-linearity leads to the target layer and has about twice its "
                "grid; maps come from the target layer alone"
            )
            return None, note
        return detail, None
    detail = choose_layer(graph, score, asked) if isinstance(asked, str) else choose_layer(graph, score, *asked)
    _check(graph, layer, detail, shown)
    return replace(detail, why="was asked for"), None


def find_detail(graph: Graph, layer: Candidate, known: Sequence[Candidate]) -> Candidate | None:
    """The deepest activated value at about twice the grid of `layer` on the path to it, or None.

    known: the graph's candidates, in its order.
    """
    before = graph.ancestors([layer.name]) - {layer.name}
    for candidate in reversed(known):
        fits = candidate.name in before and not candidate.assumed and candidate.channels >= _FEWEST
        if fits and _about_twice(candidate, layer) and _is_activated(graph, candidate.name):
            height, width = candidate.grid
            why = f"the deepest activated value before the target layer at about twice its grid ({height}x{width})"
            return replace(candidate, why=why)
    return None


def _check(graph: Graph, layer: Candidate, detail: Candidate, shown: Callable[[str], str]) -> None:
    (height, width), (rows, columns) = detail.grid, layer.grid
    where = f"detail layer '{shown(detail.name)}'"
    if detail.name == layer.name:
        raise LayerError(f"{where} is the target layer itself: name a finer one, or --detail none")
    if None in (height, width, rows, columns):
        raise LayerError(f"{where}: its grid is not fixed, which a detail layer's must be")
    coarser = (height or 0) < (rows or 0) or (width or 0) < (columns or 0)
    if coarser or detail.grid == layer.grid:
        raise LayerError(
            f"{where} has a grid of {height}x{width}, which is not finer than the target layer's {rows}x{columns}: "
            "name an earlier layer, or --detail none"
        )
    if detail.name not in graph.ancestors([layer.name]):
        raise LayerError(f"{where} does not lead to the target layer '{shown(layer.name)}': name one that does")


def _about_twice(candidate: Candidate, layer: Candidate) -> bool:
    """A line of cells counts by its length alone."""
    pairs = list(zip(candidate.grid, layer.grid, strict=True))
    if any(fine is None or coarse is None for fine, coarse in pairs) or candidate.grid == layer.grid:
        return False
    sizes = [(fine or 0, coarse or 0) for fine, coarse in pairs]
    return all(_LEAST <= fine / coarse <= _MOST or fine == coarse == 1 for fine, coarse in sizes)


def _is_activated(graph: Graph, name: str) -> bool:
    node = graph.producers.get(name)
    if node is None:
        return False
    if node.op_type in _NON_LINEAR or _cuts_below_zero(graph, node):
        return True
    if node.op_type == "Concat":
        return all(_is_activated(graph, source) for source in node.input)
    if node.op_type in _KEEPING:
        return _is_activated(graph, node.input[0])
    return _is_written_out(graph, node) or _is_gated(graph, node)


def _cuts_below_zero(graph: Graph, node: NodeProto) -> bool:
    """Whether a quantiser's range begins at 0: quantisers leave out the ReLU in front of such a one."""
    if node.op_type != "QuantizeLinear":
        return False
    if len(node.input) < 3 or not node.input[2]:
        return graph.elem_type(node.output[0]) in (None, TensorProto.UINT8, TensorProto.UINT16)
    zero = graph.constant(node.input[2])
    return zero is not None and zero.dtype.kind in "iu" and bool((zero == np.iinfo(zero.dtype).min).all())


def _is_written_out(graph: Graph, node: NodeProto) -> bool:
    """Whether `node` ends a non-linearity of a single value that is made of elementwise operators."""
    if node.op_type not in ("Mul", "Div", "Max", "Min"):
        return False
    values = [name for name in node.input if name and name not in graph.constants]
    for source in values:
        for stem in (source, *_stems(graph, source)):
            reached, curved = _elementwise_from(graph, node, stem)
            if reached and curved:
                return True
    return False


def _stems(graph: Graph, name: str) -> list[str]:
    """`name` without constant factors: 0.5 * x * (1 + erf(x)) may be multiplied in any order."""
    node, found = graph.producers.get(name), []
    while node is not None and node.op_type in ("Mul", "Div"):
        sources = [source for source in node.input if source not in graph.constants]
        if len(sources) != 1:
            break
        found.append(sources[0])
        node = graph.producers.get(sources[0])
    return found


def _elementwise_from(graph: Graph, node: NodeProto, stem: str) -> tuple[bool, bool]:
    """Whether everything that `node` reads comes elementwise from `stem`, and whether a curve lies between."""
    waiting, curved, steps = [name for name in node.input if name], node.op_type in ("Max", "Min"), 0
    while waiting:
        name = waiting.pop()
        if name == stem or name in graph.constants:
            continue
        maker = graph.producers.get(name)
        steps += 1
        if maker is None or maker.op_type not in _WRITTEN_OUT or steps > 24:
            return False, False
        curved = curved or maker.op_type in _CURVED
        waiting += [source for source in maker.input if source]
    return True, curved


def _is_gated(graph: Graph, node: NodeProto) -> bool:
    """An activated value times a gate of its channels, as squeeze-and-excitation has it."""
    if node.op_type != "Mul":
        return False
    shapes = [graph.shape(name) for name in node.input]
    for position, source in enumerate(node.input):
        gate, whole = shapes[1 - position], shapes[position]
        if gate is None or whole is None or len(gate) != len(whole):
            continue
        if sum(a != b for a, b in zip(gate, whole, strict=True)) >= len(whole) - 2 and _is_activated(graph, source):
            return True
    return False
