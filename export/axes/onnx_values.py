"""What the axes of every value of an ONNX graph mean: batch, rows, columns, channels.

In the terms of `algebra`: the image is (N, C, H, W), and each operator says
what it does to the axes. A symbolic batch is given a number that no layer has, so that every
size is a number and the batch is known by its size where it is merged into windows.
"""

from __future__ import annotations

from onnx import NodeProto, ValueInfoProto, helper

from ...runtime.errors import ModelFileError
from ..graph import Graph, Shape, attribute, fold_constants
from ..graph.graph import Dim
from .algebra import (
    Axes,
    Root,
    blank,
    broadcast,
    count,
    forget,
    fresh,
    has_place,
    image_axes,
    is_assumed,
    joined,
    layout_of,
    plain_kind,
    planar,
    regroup,
    resized,
    sliced,
    without,
)
from .layout import Layout

__all__ = ["AxisMap", "map_axes", "settle_sizes"]

#: Primes that no layer has.
_BATCH, _OTHER_BATCH = 509, 521

_RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_PLANAR = {
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool",
    "GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool",
    "QLinearConv", "Resize", "SpaceToDepth", "Upsample", "ConvInteger", "FusedConv", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "NhwcConv", "NhwcFusedConv", "NhwcMaxPool",
}  # fmt: skip
# Of these, the ones that always take (N, H, W, C); others say so by an attribute.
_CHANNELS_LAST = {"NhwcConv", "NhwcFusedConv", "NhwcMaxPool"}
_REDUCTIONS = {
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "QLinearReduceMean",
}  # fmt: skip
_ATTENTION = {"Attention", "MultiHeadAttention", "QAttention"}
# Products, and which of their inputs is the second factor.
_PRODUCTS = {
    "MatMul": 1, "FusedMatMul": 1, "TransposeMatMul": 1, "Gemm": 1, "FusedGemm": 1, "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1, "DynamicQuantizeMatMul": 1, "QLinearMatMul": 3, "QGemm": 3,
}  # fmt: skip
# Operators whose result has its input's shape but not its order, or whose axes mean something new.
_LOSING = {
    "Compress", "Einsum", "GRU", "GatherElements", "GatherND", "GridSample", "LSTM", "MaxRoiPool", "MaxUnpool",
    "OneHot", "RNN", "ReverseSequence", "RoiAlign", "ScatterElements", "ScatterND", "TopK", *_PRODUCTS,
}  # fmt: skip
# What these say of a value is about its shape, not about its places.
_SIZES = {"NonZero", "Shape", "Size"}


class AxisMap:
    """The axes of every value of one graph whose sizes are known."""

    def __init__(self, axes: dict[str, Axes]) -> None:
        self._axes = axes

    def sizes(self, name: str) -> list[int] | None:
        """The value's sizes, the batch's stand-in among them."""
        axes = self._axes.get(name)
        return None if axes is None else [count(axis) for axis in axes]

    def layout(self, name: str) -> Layout | None:
        """How a value holds its grid; None when it has none that is known."""
        axes = self._axes.get(name)
        return None if axes is None else layout_of(axes)

    def is_assumed(self, name: str) -> bool:
        """Whether an operator on the way took axes that are not known for those of the image."""
        return is_assumed(self._axes.get(name, ()))

    def has_place(self, name: str) -> bool | None:
        """Whether places of the image can still be told apart in the value; None where nothing is known."""
        return None if self.is_lost(name) else any(has_place(axis) for axis in self._axes[name][1:])

    def is_lost(self, name: str) -> bool:
        """Whether so little is known about the value's axes that one may guess from its shape."""
        axes = self._axes.get(name)
        if axes is None:
            return True
        windows = len(axes[0]) > 1  # the batch and something else
        unknown = any(part.root.kind == "?" for axis in axes for part in axis)
        return unknown and not windows and not any(has_place(axis) for axis in axes[1:])


def map_axes(graph: Graph) -> AxisMap:
    """Follow the axes of the image, (N, C, H, W) or (N, H, W, C), through `graph`."""
    graph, sizes, batch = _with_numbers(graph)
    axes: dict[str, Axes] = {}
    for name in graph.input_names:
        shape = sizes.get(name)
        if shape is not None and len(shape) == 4 and shape[0] == batch.size:
            axes[name] = image_axes(batch, shape) if _channels_first(shape) else _channels_last(batch, shape)
    follow = _Follow(graph, sizes, axes, batch)
    for node in graph.nodes:
        follow(node)
    return AxisMap(axes)


def _channels_first(shape: list[int]) -> bool:
    """Where an image has its channels: 3 of them, else 1, else the fewer."""
    for channels in (3, 1):
        if (shape[1] == channels) != (shape[3] == channels):
            return shape[1] == channels
    return shape[1] <= shape[3]


def _channels_last(batch: Root, sizes: list[int]) -> Axes:
    first, channels, height, width = image_axes(batch, [sizes[0], sizes[3], sizes[1], sizes[2]])
    return (first, height, width, channels)


def settle_sizes(graph: Graph) -> None:
    """Write down sizes that inference leaves open though they are those of the batch, or do not depend on it.

    Older exporters compute all sizes from the image's: with a batch that is a number they are numbers.
    """
    batches = [shape[0] for name in graph.input_names if (shape := graph.shape(name)) is not None and len(shape) == 4]
    known: set[object] = {batches[0]} if batches else set()
    unclear = {
        name: (kind, shape)
        for name, (kind, shape) in graph.types.items()
        if shape is not None
        and name in graph.producers
        and any(not isinstance(dim, int) and (axis or dim not in known) for axis, dim in enumerate(shape))
    }
    if not unclear:
        return
    one, other = _with_numbers(graph)[1], _with_numbers(graph, _OTHER_BATCH)[1]
    found: dict[str, tuple[int, Shape]] = {}
    for name, (kind, shape) in unclear.items():
        sizes = list(zip(shape, one.get(name, ()), other.get(name, ()), strict=False))
        if len(sizes) == len(shape):
            found[name] = kind, tuple(_settled(dim, first, second, batches) for dim, first, second in sizes)
    kept = [info for info in graph.model.graph.value_info if info.name not in found]
    del graph.model.graph.value_info[:]
    graph.model.graph.value_info.extend(kept)
    graph.model.graph.value_info.extend(
        helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in found.items()
    )
    graph.infer()


def _settled(dim: Dim, first: int, second: int, batches: list[Dim]) -> Dim:
    """A dimension that is `first` with one batch and `second` with another."""
    if first == second:
        return first
    return batches[0] if (first, second) == (_BATCH, _OTHER_BATCH) and batches else dim


def _with_numbers(graph: Graph, number: int = _BATCH) -> tuple[Graph, dict[str, list[int]], Root]:
    """A copy with a batch of fixed size, the sizes of its values where they are known, and the batch."""
    twin = graph.copy()
    batch = 0
    for info in twin.inputs:
        dims = info.type.tensor_type.shape.dim
        if len(dims) == 4:
            if not dims[0].dim_value:
                dims[0].dim_value = number
            batch = batch or dims[0].dim_value
    for info in twin.outputs:
        info.type.tensor_type.ClearField("shape")
    del twin.model.graph.value_info[:]
    twin.model.graph.value_info.extend(_of_other_domains(graph, batch))
    twin.types.clear()
    try:
        twin.infer()
        fold_constants(twin)  # sizes that the graph computes are constants now
    except ModelFileError:  # a number somewhere in the file asks for another batch
        return twin, {}, Root("N", batch)
    sizes: dict[str, list[int]] = {}
    for name, (_, shape) in twin.types.items():
        numbers = [size for size in shape or () if isinstance(size, int)]
        if shape is not None and len(numbers) == len(shape):
            sizes[name] = numbers
    return twin, sizes, Root("N", batch)


def _of_other_domains(graph: Graph, batch: int) -> list[ValueInfoProto]:
    """What is known of values that ONNX's own inference knows nothing of, with `batch` images."""
    free = {shape[0] for name in graph.input_names if (shape := graph.shape(name)) and isinstance(shape[0], str)}
    found = []
    for node in graph.nodes:
        for name in node.output if node.domain not in ("", "ai.onnx") else ():
            kind, shape = graph.elem_type(name), graph.shape(name)
            if kind is not None and shape is not None:
                # Without an image there is no batch, and a free size stays free.
                sizes = [batch if batch and size in free else size for size in shape]
                found.append(helper.make_tensor_value_info(name, kind, sizes))
    return found


class _Follow:
    """One node's axes from those of its inputs."""

    def __init__(self, graph: Graph, sizes: dict[str, list[int]], axes: dict[str, Axes], batch: Root) -> None:
        self._graph, self._sizes, self._axes, self._batch = graph, sizes, axes, batch

    def __call__(self, node: NodeProto) -> None:
        known = [self._axes[name] for name in node.input if name in self._axes]
        if not known:  # made of constants and sizes
            return
        for index, name in enumerate(node.output):
            sizes = self._sizes.get(name)
            if sizes is None or node.op_type in _SIZES:
                continue
            found = self._known(node, sizes, index)
            if found is None:
                moved = node.op_type in _LOSING
                found = broadcast([] if moved else known, sizes, self._batch)
            if len(found) != len(sizes) or any(count(a) != s for a, s in zip(found, sizes, strict=True)):
                found = tuple(blank(self._batch, size) for size in sizes)
            self._axes[name] = found

    def _known(self, node: NodeProto, sizes: list[int], index: int) -> Axes | None:
        kind = node.op_type
        if kind in ("Concat", "QLinearConcat"):
            return self._concat(node, sizes)
        before = self._axes.get(node.input[0])
        if before is None:
            return self._constant_first(node, sizes)
        rank = len(before)
        if kind in _RESHAPES:
            return regroup(before, sizes)
        if kind == "Transpose":
            return tuple(before[i] for i in attribute(node, "perm") or reversed(range(rank)))
        if kind == "Expand":
            padded = ((),) * (len(sizes) - rank) + before
            return tuple(a if count(a) == s else blank(self._batch, s) for a, s in zip(padded, sizes, strict=True))
        if kind in _REDUCTIONS:
            gone = self._graph.integers(node, "axes", 1)
            gone = list(range(rank)) if gone is None else [axis % rank for axis in gone]
            return without(before, gone, keep=len(sizes) == rank)
        if kind in _PRODUCTS:
            return self._product(node, before, sizes)
        if kind in ("ArgMax", "ArgMin"):
            return without(before, [int(attribute(node, "axis", 0)) % rank], keep=len(sizes) == rank)
        if kind in _ATTENTION and rank == 3:
            return (*before[:-1], fresh("C", sizes[-1]))
        if kind in _PLANAR:
            last = kind in _CHANNELS_LAST or attribute(node, "channels_last", 0)
            return self._planar_last(before, sizes) if last else planar(before, sizes, self._batch)
        if kind == "Pad":
            return tuple(resized(a, s) for a, s in zip(before, sizes, strict=True))
        if kind in ("Slice", "Split"):
            return self._slice(node, before, sizes, index)
        if kind == "Gather":
            return self._gather(node, before, sizes)
        return None

    def _planar_last(self, before: Axes, sizes: list[int]) -> Axes | None:
        """Of an operator on planes whose input is (N, H, W, C) by definition."""
        if len(sizes) != 4 or len(before) != 4:
            return None
        first = (0, 3, 1, 2)
        turned = planar(tuple(before[i] for i in first), [sizes[i] for i in first], self._batch)
        return None if turned is None else tuple(turned[i] for i in (0, 2, 3, 1))

    def _product(self, node: NodeProto, before: Axes, sizes: list[int]) -> Axes | None:
        if len(before) != len(sizes) or attribute(node, "transA", 0):
            return None
        other = self._axes.get(node.input[_PRODUCTS[node.op_type]])
        column = -2 if attribute(node, "transB", 0) else -1
        last = other[column] if other and len(other) > 1 else fresh("C", sizes[-1])
        return (*without(before, [len(before) - 1], keep=False), last)

    def _constant_first(self, node: NodeProto, sizes: list[int]) -> Axes | None:
        """A constant, and then the value: weight @ value, whose rows are new, or entries of a table."""
        place = _PRODUCTS.get(node.op_type, 1)
        other = self._axes.get(node.input[place]) if len(node.input) > place else None
        if other is None:
            return None
        if node.op_type == "Gather":
            axis = int(attribute(node, "axis", 0)) % (len(sizes) - len(other) + 1)
            before, behind = sizes[:axis], sizes[axis + len(other) :]
            return (*(fresh("?", n) for n in before), *other, *(fresh("C", n) for n in behind))
        if node.op_type not in _PRODUCTS or len(other) != len(sizes) or attribute(node, "transB", 0):
            return None
        left = without(other, [len(other) - 2], keep=False)
        return (*left[:-1], fresh("?", sizes[-2]), left[-1])

    def _slice(self, node: NodeProto, before: Axes, sizes: list[int], index: int) -> Axes | None:
        if node.op_type == "Split":
            axis = int(attribute(node, "axis", 0)) % len(sizes)
            lengths = [self._sizes.get(name) for name in node.output]
            earlier = [length[axis] for length in lengths[:index] if length is not None]
            return (*before[:axis], sliced(before[axis], sum(earlier), sizes[axis]), *before[axis + 1 :])
        starts, axes = self._graph.integers(node, "starts", 1), self._graph.integers(node, "axes", 3)
        steps = self._graph.integers(node, "steps", 4) or [1] * len(sizes)
        if starts is None:
            return None
        result = list(before)
        for start, axis, step in zip(starts, axes or range(len(starts)), steps, strict=False):
            place = axis % len(sizes)
            whole = count(before[place])
            if step < 0 and sizes[place] > 1:  # turned round
                result[place] = fresh("?", sizes[place])
                continue
            first = start + whole if start < 0 else start
            result[place] = sliced(before[place], first if step == 1 else -1, sizes[place])
        return tuple(result)

    def _gather(self, node: NodeProto, before: Axes, sizes: list[int]) -> Axes:
        axis = int(attribute(node, "axis", 0)) % len(before)
        if len(sizes) == len(before) - 1:  # one index
            return tuple(forget(a, before[axis]) for i, a in enumerate(before) if i != axis)
        if len(sizes) == len(before):
            return (*before[:axis], fresh("?", sizes[axis]), *before[axis + 1 :])
        return tuple(blank(self._batch, size) for size in sizes)

    def _concat(self, node: NodeProto, sizes: list[int]) -> Axes | None:
        axis = int(attribute(node, "axis", 0)) % len(sizes)
        # Quantised: a scale and a zero point come first, and two more with each value.
        names = node.input[2::3] if node.op_type == "QLinearConcat" else node.input
        inputs = [a if a is not None and len(a) == len(sizes) else None for a in map(self._axes.get, names)]
        lengths = [self._sizes.get(name) for name in names]
        if any(length is None for length in lengths):
            return None
        result = joined(inputs, [length[axis] for length in lengths if length is not None], axis, sizes)
        # Rows behind rows are a roll (the last ones first), whose cells are not where they seem to be.
        if plain_kind(result[axis]) in ("H", "W"):
            return (*result[:axis], fresh("T", sizes[axis]), *result[axis + 1 :])
        return result
