"""Random small graphs of covered operators: against PyTorch, which computes the same graph, and against differences.

Each step of a graph takes values that are there already, so there are branches, values that are
used several times, and broadcasting between unlike shapes. Both sides are in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.reverse import vjp
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

pytestmark = pytest.mark.slow

EXAMPLES = 220
# Elements of the largest value.
LARGEST = 500


class Drawing:
    """A graph under construction, as ONNX nodes and as PyTorch tensors at once."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw, self.rng = draw, np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes: list = []
        self.constants: dict[str, np.ndarray] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.operators: list[str] = []

    def input(self, name: str, *shape: int) -> None:
        self.tensors[name] = torch.tensor(self.rng.uniform(-1.5, 1.5, shape), requires_grad=True)

    def pick(self, rank: int | tuple[int, ...] | None = None) -> str:
        """A value, the later ones more often."""
        fitting = [n for n, t in self.tensors.items() if rank is None or t.ndim in np.atleast_1d(rank)]
        assume(fitting)
        return fitting[len(fitting) - 1 - min(self.draw(st.integers(0, 5)), len(fitting) - 1)]

    def constant(self, array: np.ndarray) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = array
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def weight(self, *shape: int) -> tuple[str, torch.Tensor]:
        array = self.rng.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1))
        return self.constant(array), torch.tensor(array)

    def add(self, op: str, inputs: list[str], result: torch.Tensor, **attributes: Any) -> None:
        assume(0 < result.numel() <= LARGEST and bool(torch.isfinite(result).all()) and result.abs().max() < 1e3)
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.tensors[name] = result
        self.operators.append(op)

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def axis(self, rank: int) -> int:
        """Any axis, counted from either end."""
        return self.integer(-rank, rank - 1)

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))


# Attributes are float32: their values are chosen so that both sides mean the same number. Erf and Gelu are not here:
# the reference evaluator computes them in single precision.
UNARY: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], dict]] = {
    "Relu": (F.relu, {}),
    "LeakyRelu": (lambda x: F.leaky_relu(x, 0.25), {"alpha": 0.25}),
    "Elu": (lambda x: F.elu(x, 0.75), {"alpha": 0.75}),
    "Sigmoid": (torch.sigmoid, {}),
    "Tanh": (torch.tanh, {}),
    "Softplus": (F.softplus, {}),
    "Softsign": (F.softsign, {}),
    # An attribute of ONNX's HardSigmoid, by which it is defined, so float32's 1/6.
    "HardSwish": (lambda x: x * (x * float(np.float32(1 / 6)) + 0.5).clamp(0, 1), {}),
    "Mish": (F.mish, {}),
    "Abs": (torch.abs, {}),
    "Neg": (torch.neg, {}),
    "Sin": (torch.sin, {}),
}


def unary(d: Drawing) -> None:
    x, op = d.pick(), d.one_of(*UNARY)
    function, attributes = UNARY[op]
    d.add(op, [x], function(d.tensors[x]), **attributes)


def clip(d: Drawing) -> None:
    x = d.pick()
    bounds = [d.constant(np.array(v)) for v in (-0.75, 1.0)]
    d.add("Clip", [x, *bounds], F.hardtanh(d.tensors[x], -0.75, 1.0))


BINARY = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Max": torch.maximum, "Min": torch.minimum,
}  # fmt: skip


def binary(d: Drawing) -> None:
    """Two values that broadcast; or one, and a constant of which some axes are 1 and the first may be missing."""
    x, op = d.pick(), d.one_of(*BINARY)
    a = d.tensors[x]
    partners = [n for n, t in d.tensors.items() if _broadcasts(t.shape, a.shape)]
    if d.integer(0, 2):
        y = d.one_of(*partners)
        b = d.tensors[y]
    else:
        shape = [size if d.integer(0, 1) else 1 for size in a.shape][d.integer(0, a.ndim) :]
        y, b = d.weight(*shape)
    if d.integer(0, 1):
        (x, a), (y, b) = (y, b), (x, a)
    d.add(op, [x, y], BINARY[op](a, b))


def _broadcasts(a: torch.Size, b: torch.Size) -> bool:
    return all(i == j or 1 in (i, j) for i, j in zip(a[::-1], b[::-1], strict=False))


def division(d: Drawing) -> None:
    x = d.pick()
    scale = d.constant(np.array(2.0))
    below = f"v{len(d.nodes)}"
    d.add("Abs", [x], d.tensors[x].abs())
    d.add("Add", [below, scale], d.tensors[below] + 2.0)
    y = d.one_of(*(n for n, t in d.tensors.items() if _broadcasts(t.shape, d.tensors[x].shape)))
    below = f"v{len(d.nodes) - 1}"
    d.add("Div", [y, below], d.tensors[y] / d.tensors[below])


REDUCTIONS: dict[str, Callable[[torch.Tensor, list[int], bool], torch.Tensor]] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}


def reduction(d: Drawing) -> None:
    x, op = d.pick((2, 3, 4)), d.one_of(*REDUCTIONS)
    a = d.tensors[x]
    chosen = d.draw(st.lists(st.integers(0, a.ndim - 1), min_size=1, max_size=a.ndim - 1, unique=True))
    axes = [c - a.ndim if d.integer(0, 1) else c for c in chosen]
    keep = bool(d.integer(0, 1))
    d.add(op, [x, d.ints(*axes)], REDUCTIONS[op](a, axes, keep), keepdims=int(keep))


def transpose(d: Drawing) -> None:
    x = d.pick((2, 3, 4))
    order = d.draw(st.permutations(range(d.tensors[x].ndim)))
    d.add("Transpose", [x], d.tensors[x].permute(*order), perm=list(order))


def reshape(d: Drawing) -> None:
    x = d.pick((2, 3, 4))
    a = d.tensors[x]
    first = d.integer(0, a.ndim - 2)
    dims = [*a.shape[:first], a.shape[first] * a.shape[first + 1], *a.shape[first + 2 :]]
    if d.integer(0, 1):
        at = d.integer(0, len(dims) - 1)
        divisors = [i for i in range(1, dims[at] + 1) if dims[at] % i == 0]
        part = d.one_of(*divisors)
        dims[at : at + 1] = [part, dims[at] // part]
    assume(len(dims) <= 4)
    target = list(dims)
    if d.integer(0, 1):
        target[d.integer(0, len(dims) - 1)] = -1
    d.add("Reshape", [x, d.ints(*target)], a.reshape(dims))


def squeeze(d: Drawing) -> None:
    x = d.pick((1, 2, 3))
    axis = d.integer(-d.tensors[x].ndim - 1, d.tensors[x].ndim)
    d.add("Unsqueeze", [x, d.ints(axis)], d.tensors[x].unsqueeze(axis))


def cut(d: Drawing) -> None:
    x = d.pick((2, 3, 4))
    a = d.tensors[x]
    axis = d.axis(a.ndim)
    size = a.shape[axis]
    step = d.one_of(1, 2, -1, -2)
    start, end = sorted((d.integer(0, size), d.integer(0, size)))
    assume(start < end)
    cells = list(range(start, end, step) if step > 0 else range(end - 1, start - 1, step))
    stop = end if step > 0 else (start - 1 if start else -size - 1)
    begin = cells[0] - size if d.integer(0, 1) else cells[0]
    result = a.index_select(axis, torch.tensor(cells))
    d.add("Slice", [x, d.ints(begin), d.ints(stop), d.ints(axis), d.ints(step)], result)


def gather(d: Drawing) -> None:
    x = d.pick((2, 3, 4))
    a = d.tensors[x]
    axis = d.axis(a.ndim)
    size = a.shape[axis]
    indices = d.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=4))
    d.add("Gather", [x, d.ints(*indices)], a.index_select(axis, torch.tensor(indices) % size), axis=axis)


def concat(d: Drawing) -> None:
    x = d.pick((2, 3, 4))
    a = d.tensors[x]
    axis = d.axis(a.ndim)

    def fits(t: torch.Tensor) -> bool:
        return t.ndim == a.ndim and all(i == axis % a.ndim or t.shape[i] == a.shape[i] for i in range(a.ndim))

    y = d.one_of(*(n for n, t in d.tensors.items() if fits(t)))
    d.add("Concat", [x, y], torch.cat([a, d.tensors[y]], axis), axis=axis)


def pad(d: Drawing) -> None:
    x = d.pick(4)
    a = d.tensors[x]
    mode: str = d.one_of("constant", "reflect", "edge", "wrap")
    limit = min(a.shape[2:]) - 1
    assume(limit >= 1)
    top, left, bottom, right = (d.integer(0, min(limit, 2)) for _ in range(4))
    torch_mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[mode]
    result = F.pad(a, [left, right, top, bottom], torch_mode)
    d.add("Pad", [x, d.ints(0, 0, top, left, 0, 0, bottom, right)], result, mode=mode)


def softmax(d: Drawing) -> None:
    x = d.pick((2, 3, 4))
    axis = d.axis(d.tensors[x].ndim)
    op = d.one_of("Softmax", "LogSoftmax")
    function = torch.softmax if op == "Softmax" else torch.log_softmax
    d.add(op, [x], function(d.tensors[x], axis), axis=axis)


def normalisation(d: Drawing) -> None:
    op = d.one_of("LayerNormalization", "InstanceNormalization", "BatchNormalization")
    x = d.pick((2, 3, 4) if op == "LayerNormalization" else 4)
    a = d.tensors[x]
    size = a.shape[-1 if op == "LayerNormalization" else 1]
    s, scale = d.weight(size)
    b, shift = d.weight(size)
    if op == "LayerNormalization":
        d.add(op, [x, s, b], F.layer_norm(a, (size,), scale, shift, 0.125), axis=-1, epsilon=0.125)
    elif op == "InstanceNormalization":
        assume(a.shape[2] * a.shape[3] > 1)
        d.add(op, [x, s, b], F.instance_norm(a, weight=scale, bias=shift, eps=0.125), epsilon=0.125)
    else:
        m, mean = d.weight(size)
        variance = np.abs(d.rng.standard_normal(size)) + 0.5
        v = d.constant(variance)
        d.add(
            op, [x, s, b, m, v], F.batch_norm(a, mean, torch.tensor(variance), scale, shift, eps=0.125), epsilon=0.125
        )


def convolution(d: Drawing) -> None:
    x = d.pick(4)
    a = d.tensors[x]
    channels = a.shape[1]
    kernel, stride, dilation, padding = d.integer(1, 3), d.integer(1, 2), d.integer(1, 2), d.integer(0, 1)
    group = d.one_of(1, channels) if stride == 1 else 1
    assume(min(a.shape[2:]) + 2 * padding >= (kernel - 1) * dilation + 1)
    w, weight = d.weight(group if group > 1 else d.integer(1, 3), channels // group, kernel, kernel)
    b, bias = d.weight(weight.shape[0])
    result = F.conv2d(a, weight, bias, stride, padding, dilation, group)
    d.add(
        "Conv", [x, w, b], result, group=group, strides=[stride] * 2, dilations=[dilation] * 2, pads=[padding] * 4,
        kernel_shape=[kernel] * 2,
    )  # fmt: skip


def transposed_convolution(d: Drawing) -> None:
    x = d.pick(4)
    a = d.tensors[x]
    kernel, stride = d.integer(1, 3), d.integer(1, 2)
    w, weight = d.weight(a.shape[1], d.integer(1, 2), kernel, kernel)
    d.add("ConvTranspose", [x, w], F.conv_transpose2d(a, weight, None, stride), strides=[stride] * 2)


def pooling(d: Drawing) -> None:
    x = d.pick(4)
    a = d.tensors[x]
    kernel, stride = d.integer(1, 3), d.integer(1, 3)
    padding = d.integer(0, kernel // 2)
    assume(min(a.shape[2:]) + 2 * padding >= kernel)
    common = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    if d.integer(0, 1):
        d.add("MaxPool", [x], F.max_pool2d(a, kernel, stride, padding), **common)
    else:
        counted = d.integer(0, 1)
        result = F.avg_pool2d(a, kernel, stride, padding, count_include_pad=bool(counted))
        d.add("AveragePool", [x], result, count_include_pad=counted, **common)


def global_pooling(d: Drawing) -> None:
    x = d.pick(4)
    if d.integer(0, 1):
        d.add("GlobalAveragePool", [x], d.tensors[x].mean((2, 3), keepdim=True))
    else:
        d.add("GlobalMaxPool", [x], F.adaptive_max_pool2d(d.tensors[x], 1))


def product(d: Drawing) -> None:
    """With a weight, or of a value with itself turned."""
    x = d.pick((2, 3, 4))
    a = d.tensors[x]
    if d.integer(0, 1):
        w, weight = d.weight(a.shape[-1], d.integer(1, 4))
        d.add("MatMul", [x, w], a @ weight)
    else:
        order = [*range(a.ndim - 2), a.ndim - 1, a.ndim - 2]
        turned = f"v{len(d.nodes)}"
        d.add("Transpose", [x], a.mT, perm=order)
        d.add("MatMul", [x, turned], a @ a.mT)


def linear(d: Drawing) -> None:
    x = d.pick(2)
    a = d.tensors[x]
    w, weight = d.weight(d.integer(1, 4), a.shape[1])
    b, bias = d.weight(weight.shape[0])
    d.add("Gemm", [x, w, b], 0.5 * a @ weight.T + bias, transB=1, alpha=0.5)


def enlarging(d: Drawing) -> None:
    x = d.pick(4)
    scales = d.constant(np.array([1, 1, 2, 2], np.float32))
    mode = d.one_of("nearest", "linear")
    settings = {"align_corners": False} if mode == "linear" else {}
    result = F.interpolate(d.tensors[x], scale_factor=2, mode={"linear": "bilinear"}.get(mode, mode), **settings)
    places = {} if mode == "linear" else {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    d.add("Resize", [x, "", scales], result, mode=mode, **places)


STEPS = [
    unary, unary, clip, binary, binary, binary, division, reduction, reduction, transpose, reshape, squeeze, cut,
    gather, concat, pad, softmax, normalisation, convolution, convolution, transposed_convolution, pooling, pooling,
    global_pooling, product, linear, enlarging,
]  # fmt: skip


@st.composite
def graphs(draw) -> tuple[Drawing, list[str], bool]:
    """(graph, its outputs, whether the batch is free)."""
    d = Drawing(draw)
    d.input("x", 2, d.integer(1, 3), d.integer(2, 5), d.integer(2, 5))
    d.input("z", *draw(st.sampled_from([(2, 3), (2, 1, 3), (1,), (3, 1, 1)])))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=3, max_size=7)):
        step(d)
    last = list(d.tensors)[-1]
    others = draw(st.lists(st.sampled_from([n for n in d.tensors if n.startswith("v")]), max_size=1))
    return d, list(dict.fromkeys([last, *others])), draw(st.booleans())


def as_model(d: Drawing, outputs: list[str], free: bool) -> ModelProto:
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.DOUBLE, ["N" if free and n == "x" else t.shape[0], *t.shape[1:]])
        for n, t in d.tensors.items()
        if not n.startswith("v")
    ]
    described = [helper.make_value_info(o, helper.make_tensor_type_proto(TensorProto.DOUBLE, None)) for o in outputs]
    weights = [numpy_helper.from_array(v, k) for k, v in d.constants.items()]
    graph = helper.make_graph(d.nodes, "random", inputs, described, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


SEEN: dict[str, int] = {}


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)  # fmt: skip
@given(graphs())
def _check(drawn: tuple[Drawing, list[str], bool]) -> None:
    d, outputs, free = drawn
    model = as_model(d, outputs, free)
    note(onnx.printer.to_text(model))
    product = vjp(model, ["x", "z"], outputs)
    values = [d.tensors[o] for o in outputs]
    cotangents = {o: d.rng.standard_normal(v.shape) for o, v in zip(outputs, values, strict=True)}
    feeds = {n: d.tensors[n].detach().numpy() for n in ("x", "z")}
    total = torch.stack([(v * torch.tensor(c)).sum() for v, c in zip(values, cotangents.values(), strict=True)]).sum()
    asked = [d.tensors["x"], d.tensors["z"]]
    want = torch.autograd.grad(total, asked, allow_unused=True) if total.requires_grad else (None, None)
    taken = {i.name for i in product.graph.input}
    given_values = {**feeds, **{f"cotangent_{o}": c for o, c in cotangents.items()}}
    found = ReferenceEvaluator(product).run(None, {k: v for k, v in given_values.items() if k in taken})
    for name, ours, theirs in zip(("x", "z"), found, want, strict=True):
        expected = np.zeros(feeds[name].shape) if theirs is None else theirs.numpy()
        ours = np.asarray(ours)
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 1e-8 * max(np.abs(expected).max(), 1.0), name
    _check_differences(ReferenceEvaluator(model), feeds, cotangents, [np.asarray(f) for f in found], d.rng)
    SEEN["graphs"] = SEEN.get("graphs", 0) + 1
    for operator in d.operators:
        SEEN[operator] = SEEN.get(operator, 0) + 1


def _check_differences(plain: Any, feeds: dict, cotangents: dict, found: list[np.ndarray], rng) -> None:
    """Along one direction, where no kink lies within the step."""
    directions = {n: rng.standard_normal(v.shape) for n, v in feeds.items()}

    def score(step: float) -> float:
        outputs = plain.run(None, {n: v + step * directions[n] for n, v in feeds.items()})
        return float(sum((np.asarray(o) * c).sum() for o, c in zip(outputs, cotangents.values(), strict=True)))

    here = score(0.0)
    step = 1e-6
    ahead, behind = (score(s) - here for s in (step, -step))
    got = float(sum((g * directions[n]).sum() for n, g in zip(feeds, found, strict=True)))
    scale = max(abs(got), abs(ahead) / step, 1.0)
    if abs(ahead + behind) / step > 1e-3 * scale:
        return  # the two sides differ: a kink
    assert abs((ahead - behind) / (2 * step) - got) <= 1e-5 * scale


def test_random_graphs(summary_line) -> None:
    SEEN.clear()
    _check()
    operators = sorted(set(SEEN) - {"graphs"})
    summary_line(f"random graphs against PyTorch and differences: {SEEN['graphs']}, of {len(operators)} operators")
    assert SEEN["graphs"] >= EXAMPLES // 2
    assert len(operators) >= 45
