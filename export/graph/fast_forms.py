"""The backward pass in the operators that engines run fastest.

Autograd's adjoints say `Where` and `ConvTranspose`. In ONNX Runtime a product with a mask takes
half to a quarter of the time of a `Where`, and a convolution a half to a tenth of that of a
transposed one. Only what the plain outputs do not need is rewritten: they stay to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from .graph import Graph, attribute
from .pruning import prune

__all__ = ["use_fast_forms"]

#: Comparison -> the one that is true where it is false.
_OPPOSITE = {
    "Greater": "LessOrEqual",
    "GreaterOrEqual": "Less",
    "Less": "GreaterOrEqual",
    "LessOrEqual": "Greater",
}

#: Weights per tap from which on phases win: 512 x 256 channels take half the time, 256 x 128 the same.
_MANY = 1 << 16


def use_fast_forms(graph: Graph, plain_outputs: Iterable[str]) -> int:
    """Rewrite nodes in place that none of `plain_outputs` depends on; returns how many.

    1. ``Where(c, g, 0)`` and ``Where(c, 0, g)`` become products with a mask (of finite numbers).
    2. ``ConvTranspose`` with stride 1 and constant weights becomes ``Conv`` with the kernel turned
       round. It is turned in the graph: the file still holds the weight once.
    3. On a grid of one cell a pointwise ``ConvTranspose`` becomes a product of matrices.
    4. ``ConvTranspose`` with a stride and many channels becomes one small ``Conv`` per phase of the
       stride (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").
    """
    kept = graph.ancestors(plain_outputs)
    writer = _Writer(graph)
    rewritten = 0
    for node in graph.nodes:
        done = False
        if node.domain == "" and not any(output in kept for output in node.output):
            if node.op_type == "Where":
                done = _masked(writer, node)
            elif node.op_type == "ConvTranspose":
                done = _product(writer, node) or _turned(writer, node) or _phases(writer, node)
        if done:
            rewritten += 1
        else:
            writer.nodes.append(node)
    if rewritten:
        graph.nodes = writer.nodes
        graph.reindex()
        prune(graph)
    return rewritten


class _Writer:
    """Collects the new list of nodes; what has been written already is used again."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self._written: dict[tuple, str] = {}

    def __call__(self, op: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        key = (op, *inputs, repr(sorted(attributes.items())))
        if output is None and key in self._written:
            return self._written[key]
        name = output or self.graph.fresh(f"cam_fast_{op.lower()}_value")
        label = self.graph.fresh(f"cam_fast_{op.lower()}")
        self.nodes.append(helper.make_node(op, inputs, [name], name=label, **attributes))
        self._written[key] = name
        return name

    def ints(self, values: list[int]) -> str:
        key = ("ints", *map(str, values))
        if key not in self._written:
            name = self.graph.fresh("cam_fast_const")
            self.graph.add_constant(name, np.array(values, np.int64))
            self._written[key] = name
        return self._written[key]


def _masked(write: _Writer, node: NodeProto) -> bool:
    """Rewrite 1."""
    graph = write.graph
    condition, yes, no = node.input
    kind = graph.elem_type(node.output[0])
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
        return False
    if _is_zero(graph, no):
        gradient = yes
    elif _is_zero(graph, yes):
        gradient, condition = no, _opposite(write, condition)
    else:
        return False
    mask = write("Cast", [condition], to=kind)
    write("Mul", [gradient, mask], node.output[0])
    return True


def _is_zero(graph: Graph, name: str) -> bool:
    value = graph.constant(name)
    return value is not None and value.size == 1 and not value.any()


def _opposite(write: _Writer, condition: str) -> str:
    """The negated condition: as comparisons, so that what it was made of goes away."""
    maker = write.graph.producers.get(condition)
    if maker is not None and maker.op_type in _OPPOSITE:
        return write(_OPPOSITE[maker.op_type], list(maker.input))
    if maker is not None and maker.op_type in ("And", "Or"):
        return write("Or" if maker.op_type == "And" else "And", [_opposite(write, name) for name in maker.input])
    return maker.input[0] if maker is not None and maker.op_type == "Not" else write("Not", [condition])


def _turned(write: _Writer, node: NodeProto) -> bool:
    """Rewrite 2."""
    source, weight = node.input[:2]
    tensor = write.graph.constants.get(weight)
    if tensor is None or not _plain_geometry(node):
        return False
    filters, channels, *kernel = tensor.dims
    dilations = attribute(node, "dilations") or [1] * len(kernel)
    pads = attribute(node, "pads") or [0] * (2 * len(kernel))
    spans = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    new_pads = [span - pad for span, pad in zip(spans * 2, pads, strict=True)]
    if min(new_pads) < 0:
        return False
    group = attribute(node, "group", 1)
    turned = _turn(write, weight, filters, channels, kernel, group)
    write(
        "Conv",
        [source, turned, *node.input[2:]],
        node.output[0],
        group=group,
        dilations=dilations,
        pads=new_pads,
        kernel_shape=kernel,
    )
    return True


def _product(write: _Writer, node: NodeProto) -> bool:
    """Rewrite 3."""
    source, weight, *bias = node.input
    tensor, shape = write.graph.constants.get(weight), write.graph.shape(source)
    if tensor is None or shape is None or bias or attribute(node, "group", 1) != 1 or not _plain_geometry(node):
        return False
    filters, channels, *kernel = tensor.dims
    if any(size != 1 for size in (*kernel, *shape[2:])) or any(attribute(node, "pads") or []):
        return False
    rows = write("Reshape", [source, write.ints([-1, filters])])
    matrix = write("Reshape", [weight, write.ints([filters, channels])])
    made = write("MatMul", [rows, matrix])
    write("Reshape", [made, write.ints([-1, channels, *kernel])], node.output[0])
    return True


def _phases(write: _Writer, node: NodeProto) -> bool:
    """Rewrite 4, for two axes of one stride s.

    Cell s p + j of the result only meets the taps of the kernel that leave the remainder r =
    (j + pad) mod s when divided by s: a convolution of the small grid, shifted by c = (j + pad - r) / s.
    `DepthToSpace` puts the s * s phases in their places.
    """
    graph = write.graph
    source, weight, *bias = node.input
    tensor, shape, result = graph.constants.get(weight), graph.shape(source), graph.shape(node.output[0])
    strides, pads = attribute(node, "strides") or [1], attribute(node, "pads") or [0] * 4
    if tensor is None or bias or len(tensor.dims) != 4 or attribute(node, "group", 1) != 1 or len(set(strides)) != 1:
        return False
    filters, channels, *kernel = tensor.dims
    grid, size, stride = (shape or ())[2:], (result or ())[2:], strides[0]
    static = all(isinstance(d, int) for d in (*grid, *size)) and len(grid) == len(size) == 2
    if not static or min(kernel) < stride or any(d != 1 for d in attribute(node, "dilations") or [1]):
        return False
    if filters * channels < _MANY or any(int(d or 0) % stride for d in size):
        return False

    def along(axis: int) -> list[tuple[int, int, int]]:
        """For each phase: first tap, and the pads of its convolution."""
        found = []
        for phase in range(stride):
            first = (phase + pads[axis]) % stride
            shift = (phase + pads[axis] - first) // stride
            taps = len(range(first, kernel[axis], stride))
            after = int(size[axis] or 0) // stride - int(grid[axis] or 0) + shift
            found.append((first, taps - 1 - shift, after))
        return found

    if min(min(before, after) for axis in (0, 1) for _, before, after in along(axis)) < 0:
        return False
    parts = []
    for top, above, below in along(0):
        for left, before, behind in along(1):
            taps = [len(range(first, k, stride)) for first, k in zip((top, left), kernel, strict=True)]
            ends, step = write.ints(kernel), write.ints([stride, stride])
            part = write("Slice", [weight, write.ints([top, left]), ends, write.ints([2, 3]), step])
            turned = _turn(write, part, filters, channels, taps, 1)
            part_pads = [above, before, below, behind]
            parts.append(write("Conv", [source, turned], kernel_shape=taps, pads=part_pads))
    write("DepthToSpace", [write("Concat", parts, axis=1)], node.output[0], blocksize=stride, mode="DCR")
    return True


def _plain_geometry(node: NodeProto) -> bool:
    """Stride 1, and a result as large as kernel and pads say."""
    return (
        all(stride == 1 for stride in attribute(node, "strides") or [1])
        and not any(attribute(node, "output_padding") or [])
        and not attribute(node, "output_shape")
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    )


def _turn(write: _Writer, weight: str, filters: int, channels: int, kernel: list[int], group: int) -> str:
    """(filters, channels, *kernel) of a ConvTranspose -> (group * channels, filters / group, *kernel), reversed."""
    axes = [a + 2 for a, size in enumerate(kernel) if size > 1]
    if axes:
        back, lowest = [-1] * len(axes), [-(2**31) + 1] * len(axes)
        weight = write("Slice", [weight, write.ints(back), write.ints(lowest), write.ints(axes), write.ints(back)])
    per_group = filters // group
    spatial = range(2, 2 + len(kernel))
    if group == 1:
        return write("Transpose", [weight], perm=[1, 0, *spatial])
    if per_group == 1 and channels == 1:
        return weight
    weight = write("Reshape", [weight, write.ints([group, per_group, channels, *kernel])])
    weight = write("Transpose", [weight], perm=[0, 2, 1, *(a + 1 for a in spatial)])
    return write("Reshape", [weight, write.ints([group * channels, per_group, *kernel])])
