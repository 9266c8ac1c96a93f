"""Random bodies of networks: from an image to features, with and without channels last, tokens and quantisers."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .graph_building import NCHW, NHWC, Building, Grid

__all__ = ["body"]


def body(b: Building, image: str) -> str:
    """Nodes from an image (N, C, H, W) on; returns features (N, D)."""
    kind = b.chance.choice(["planes", "planes", "channels last", "tokens", "class token"])
    if kind in ("tokens", "class token"):
        return _tokens(b, image, kind == "class token")
    x = _planes(b, image, b.chance.choice([1, 2]))
    if kind == "planes":
        return _pooled(b, _planes(b, x, 1) if b.chance.random() < 0.5 else x)
    return _pooled(b, _channels_last(b, x))


def _around(b: Building, x: str) -> str:
    """What changes no value, or rounds it, and moves no cell of the grid for good."""
    if b.quantised and b.chance.random() < 0.8:
        x = b.pair(x)
    rank = b.values[x].ndim
    match b.chance.randrange(9):
        case 0:
            x = b.same("Identity", x)
        case 1:
            x = b.same("Clip", x, b.number(-1e4), b.number(1e4))
        case 2 if rank == 4:
            x = b.transposed(b.transposed(x, (0, 2, 3, 1)), (0, 3, 1, 2))
        case 3 if rank == 4:
            shape = b.values[x].shape[1:]
            flat = b("Reshape", x, b.ints(0, shape[0], -1))
            x = b("Reshape", flat, b.ints(-1, *shape), grid=b.grids[x])
        case 4:
            half = b.same("Cast", x, to=TensorProto.FLOAT16)
            x = b.same("Cast", half, to=TensorProto.FLOAT)
        case 5:
            x = b.same("Mul", x, b.number(b.chance.choice([0.5, 2.0])))
        case 6:
            axis = b.chance.randrange(1, rank)
            x = b("Squeeze", b("Unsqueeze", x, b.ints(axis)), b.ints(axis), grid=b.grids[x])
        case 7 if rank == 4:
            axis = b.grids[x].order[1]
            size = b.values[x].shape[axis]
            first, second = b("Split", x, b.ints(size // 2, size - size // 2), axis=axis, count=2)
            x = b("Concat", first, second, axis=axis, grid=b.grids[x])
    return x


def _planes(b: Building, x: str, layers: int) -> str:
    """Convolutions, channels first."""
    for _ in range(layers):
        channels, height, width = b.values[x].shape[1:]
        out, size = b.chance.choice([4, 6, 8]), b.chance.choice([1, 3, 3])
        stride = 2 if min(height, width) >= 8 else 1
        if channels == out and b.chance.random() < 0.5:  # depthwise
            kernel, group = b.weight(channels, 1, size, size), channels
        else:
            kernel, group = b.weight(out, channels, size, size), 1
        sides = [(s + 2 * (size // 2) - size) // stride + 1 for s in (height, width)]
        grid = Grid(NCHW, (sides[0], sides[1]))
        y = b(
            *("Conv", x, kernel, b.weight(out, scale=0.1)),
            strides=[stride] * 2, pads=[size // 2] * 4, group=group, grid=grid,
        )  # fmt: skip
        y = b.same("Relu", _around(b, y) if b.chance.random() < 0.3 else y)
        if b.values[x].shape == b.values[y].shape and b.chance.random() < 0.5:
            y = b.same("Add", y, x)
        if min(sides) >= 8 and b.chance.random() < 0.2:
            halves = Grid(NCHW, (sides[0] // 2, sides[1] // 2))
            y = b("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], grid=halves)
        x = _around(b, y)
    return x


def _channels_last(b: Building, x: str) -> str:
    """Turned round once, then layers along the last axis, a gate, a step along rows by turning to and fro."""
    x = b.transposed(x, (0, 2, 3, 1))
    if b.quantised:
        x = b.pair(x)
    for _ in range(b.chance.choice([1, 2])):
        out = b.chance.choice([4, 6, 8])
        y = b.same("MatMul", x, b.weight(b.values[x].shape[-1], out))
        y = b.same("Relu", b.same("Add", y, b.weight(out, scale=0.1)))
        if b.chance.random() < 0.3:
            gate = b("Sigmoid", b.reduce("ReduceMean", y, [1, 2], 1))
            y = b.same("Mul", y, gate)
        x = _around(b, y)
    return b.transposed(x, (0, 3, 1, 2)) if b.chance.random() < 0.3 else x


def _pooled(b: Building, x: str) -> str:
    """(N, C, H, W) or (N, H, W, C) to (N, D), in the forms that exporters write."""
    held = b.grids[x]
    last = held.order == NHWC
    channels = b.values[x].shape[3 if last else 1]
    axes = [1, 2] if last else [2, 3]
    ways = (
        ["mean", "kept", "flattened", "max"]
        if last
        else ["global", "mean", "kept", "flattened", "max", "window", "rows"]
    )
    way = b.chance.choice(ways)
    if way == "flattened":
        return b("Flatten", x) if b.chance.random() < 0.5 else b("Reshape", x, b.ints(0, -1))
    if way == "mean":
        y = b.reduce("ReduceMean", x, axes, 0)
    elif way == "max":
        y = b.reduce("ReduceMax", x, axes, 0)
    elif way == "rows":
        y = b.reduce("ReduceMean", b("Reshape", x, b.ints(0, channels, -1)), [-1], 0)
    else:
        if way == "window":
            y = b("AveragePool", x, kernel_shape=list(held.grid))
        else:
            y = b("GlobalAveragePool", x) if way == "global" else b.reduce("ReduceMean", x, axes, 1)
        if b.quantised:
            y = b.pair(y)
        if last and b.chance.random() < 0.5:
            y = b("Transpose", y, perm=[0, 3, 1, 2])
            last = False
        form = b.chance.randrange(3)
        if form == 0:
            return b("Flatten", y)
        return (
            b("Squeeze", y, b.ints(*axes if last else (2, 3))) if form == 1 else b("Reshape", y, b.ints(-1, channels))
        )
    return b.pair(y) if b.quantised else y


def _tokens(b: Building, image: str, class_token: bool) -> str:
    """Patches, attention, and the mean of the tokens or the class token."""
    width, (channels, height, length) = b.chance.choice([6, 8]), b.values[image].shape[1:]
    x = b("Conv", image, b.weight(width, channels, 4, 4), strides=[4, 4])
    rows, columns = height // 4, length // 4
    prefix, tokens = int(class_token), rows * columns
    held = Grid((0, 3, 1, 2), (rows, columns))
    if b.chance.random() < 0.5:
        x = b("Transpose", b("Reshape", x, b.ints(0, width, -1)), perm=[0, 2, 1], grid=held)
    else:
        x = b("Reshape", b("Transpose", x, perm=[0, 2, 3, 1]), b.ints(0, -1, width), grid=held)
    if class_token:
        held = Grid((0, 3, 1, 2), (rows, columns), 1)
        count = b("Gather", b("Shape", image), b.ints(0))
        first = b("Expand", b.weight(1, 1, width, scale=1.0), b("Concat", count, b.ints(1, width), axis=0))
        x = b("Concat", first, x, axis=1, grid=held)
    x = b.same("Add", x, b.constant(b.numbers.standard_normal((1, tokens + prefix, width)).astype(np.float32) * 0.3))
    for _ in range(b.chance.choice([1, 2])):
        x = _around(b, _block(b, _around(b, x), width))
    if b.chance.random() < 0.5:
        x = _normed(b, x, width)
    if not class_token:
        way = b.chance.choice(["mean", "kept", "planes"])
        if way == "planes":
            turned = b("Reshape", b("Transpose", x, perm=[0, 2, 1]), b.ints(0, width, rows, columns))
            b.grids[turned] = Grid(NCHW, (rows, columns))
            return _pooled(b, turned)
        y = b.reduce("ReduceMean", x, [1], int(way == "kept"))
        return y if way == "mean" else b("Squeeze", y, b.ints(1))
    if b.chance.random() < 0.3:
        rest = b("Slice", x, b.ints(1), b.ints(2**40), b.ints(1), grid=Grid((0, 3, 1, 2), (rows, columns)))
        return b.reduce("ReduceMean", rest, [1], 0)
    if b.chance.random() < 0.5:
        return b("Gather", x, b.constant(np.array(0)), axis=1)
    return b("Squeeze", b("Slice", x, b.ints(0), b.ints(1), b.ints(1)), b.ints(1))


def _block(b: Building, x: str, width: int) -> str:
    y = _normed(b, x, width)
    q, k, v = (b.same("MatMul", y, b.weight(width, width)) for _ in range(3))
    scores = b("Mul", b("MatMul", q, b("Transpose", k, perm=[0, 2, 1])), b.number(width**-0.5))
    x = b.same("Add", x, b("MatMul", b("Softmax", scores, axis=-1), v, grid=b.grids[x]))
    y = b.same("Relu", b.same("MatMul", _normed(b, x, width), b.weight(width, 2 * width)))
    return b.same("Add", x, b.same("MatMul", y, b.weight(2 * width, width)))


def _normed(b: Building, x: str, width: int) -> str:
    scale, bias = b.constant(np.ones(width, np.float32)), b.weight(width, scale=0.1)
    if b.opset < 17:
        return b.same("Add", b.same("Mul", x, scale), bias)
    return b.same("LayerNormalization", x, scale, bias, axis=-1)
