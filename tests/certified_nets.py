"""Small random CNNs made of what real ones are made of, and attacks on their maps. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from cfcam.export.proof.session import Session
from cfcam.export.reverse import differentiate
from cfcam.export.writing import set_spec, write_model
from cfcam.runtime import Explainer
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from onnx_classifiers import CLASSES, Builder, exported

__all__ = ["NETS", "Attack", "explained", "image"]

SIZE = 32


def _norm(b: Builder, x: str, channels: int) -> str:
    random = np.random.default_rng(channels)
    parts = [random.uniform(0.5, 1.5, channels), random.normal(0, 0.2, channels), random.normal(0, 0.2, channels)]
    parts.append(random.uniform(0.5, 2, channels))
    return b("BatchNormalization", x, *(b.constant(p.astype(np.float32)) for p in parts))


def _head(b: Builder, x: str, channels: int) -> ModelProto:
    b("Gemm", b("Flatten", b("GlobalAveragePool", x)), b.weight(CLASSES, channels), b.weight(CLASSES), transB=1,
      out="logits")  # fmt: skip
    return b.model({"logits": ["N", CLASSES]}, ["N", 3, SIZE, SIZE])


def plain() -> ModelProto:
    b = Builder(seed=1)
    x = b("Relu", b.conv("image", 3, 8, stride=2))
    x = b("Relu", b.conv(x, 8, 12, stride=2))
    return _head(b, b("Relu", b.conv(x, 12, 16), out="last"), 16)


def mobile() -> ModelProto:
    """Depthwise and pointwise, batch norm, ReLU6, a residual around a linear bottleneck, squeeze and excitation."""
    b = Builder(seed=2)
    zero, six = b.constant(np.float32(0)), b.constant(np.float32(6))
    x = b("Clip", _norm(b, b.conv("image", 3, 8, stride=4), 8), zero, six)
    y = b("Conv", x, b.weight(8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)
    y = b("Clip", _norm(b, y, 8), zero, six)
    gate = b("Sigmoid", b.conv(b("Relu", b.conv(b("GlobalAveragePool", y), 8, 4, 1)), 4, 8, 1))
    y = _norm(b, b("Conv", b("Mul", y, gate), b.weight(8, 8, 1, 1)), 8)
    x = b("Add", y, x)
    return _head(b, b("Clip", _norm(b, b.conv(x, 8, 16, 1), 16), zero, six, out="last"), 16)


def swish() -> ModelProto:
    """x * sigmoid(x), a HardSwish, a gate by HardSigmoid whose mean is taken by ReduceMean."""
    b = Builder(seed=3)
    x = b.conv("image", 3, 8, stride=4)
    x = b.conv(b("Mul", x, b("Sigmoid", x)), 8, 8)
    x = b("HardSwish", x)
    gate = b("HardSigmoid", b.conv(b("ReduceMean", x, b.constant(np.array([2, 3])), keepdims=1), 8, 8, 1), alpha=1 / 6)
    x = b.conv(b("Mul", gate, x), 8, 12)
    return _head(b, b("Mul", b("HardSigmoid", x), x, out="last"), 12)


def mixed() -> ModelProto:
    """Poolings, paddings, concatenation, channels shuffled and split, a computed reshape, scales and shifts."""
    b = Builder(seed=4)
    x = b(
        "Sub",
        b("Mul", "image", b.constant(np.float32(0.7))),
        b.constant(np.array([[[0.1]], [[0.2]], [[0.3]]], np.float32)),
    )
    x = b("Pad", x, b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    x = b("LeakyRelu", b("Conv", x, b.weight(8, 3, 3, 3), strides=[2, 2]), alpha=0.1)
    x = b("Concat", b("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
          b("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), axis=1)  # fmt: skip
    shape = b("Concat", b("Shape", "image", end=1), b.constant(np.array([2, 8, 8, 8])), axis=0)
    x = b("Transpose", b("Reshape", x, shape), perm=[0, 2, 1, 3, 4])
    x = b("Reshape", x, b.constant(np.array([0, 16, 8, 8])))
    first, second = "first", "second"
    b.nodes.append(helper.make_node("Split", [x, b.constant(np.array([4, 12]))], [first, second], axis=1, name="split"))
    x = b("Concat", b("Div", first, b.constant(np.float32(1.5))), b("Tanh", b("Neg", second)), axis=1)
    x = b("Transpose", x, perm=[0, 2, 3, 1])
    x = b("Transpose", b("Add", b("MatMul", x, b.weight(16, 12)), b.weight(12, scale=0.1)), perm=[0, 3, 1, 2])
    return _head(b, b("PRelu", x, b.constant(np.full((12, 1, 1), 0.2, np.float32)), out="last"), 12)


NETS: dict[str, Callable[[], ModelProto]] = {"plain": plain, "mobile": mobile, "swish": swish, "mixed": mixed}


def image(seed: int) -> NDArray[np.float32]:
    """(3, 32, 32): a blob on noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    y, x = random.uniform(8, 24, 2)
    blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 40)
    return (0.3 * random.standard_normal((3, SIZE, SIZE)) + random.normal(0, 2, (3, 1, 1)) * blob).astype(np.float32)


@contextmanager
def explained(net: str, folder: Path, layer: str | None = "last", **changes) -> Iterator[Explainer]:
    """The net as an exported file, opened. changes: of its `InputSpec`."""
    import dataclasses

    model, spec = exported(NETS[net](), layer)
    spec = dataclasses.replace(spec, input=dataclasses.replace(spec.input, **changes))
    set_spec(model, spec)
    path = folder / f"{net}.cam.onnx"
    write_model(model, path)
    with Explainer(path, threads=1) as explainer:
        yield explainer


class Attack:
    """Signed gradient steps (Madry et al., arXiv 1706.06083) that push one cell of Grad-CAM's map over another.

    The map before its ReLU is made the network's scores, a class per cell, and differentiated down to the image
    by the exporter itself. weights: (C,), of the map.
    """

    def __init__(self, net: str, weights: NDArray[np.floating], seed: int = 0) -> None:
        model = NETS[net]()
        for node in model.graph.node:
            node.input[:] = ["start" if name == "image" and node.op_type != "Shape" else name for name in node.input]
        model.graph.node.insert(0, helper.make_node("Mul", ["image", "one"], ["start"], name="start"))
        model.graph.node.append(helper.make_node("Conv", ["last", "of_map"], ["map"], name="map"))
        model.graph.node.append(helper.make_node("Flatten", ["map"], ["cells"], name="cells"))
        kernel = weights.astype(np.float32).reshape(1, -1, 1, 1)
        model.graph.initializer.append(numpy_helper.from_array(kernel, "of_map"))
        model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 1, 1), np.float32), "one"))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("cells", 1, ["N", 64]))
        self._session = Session(differentiate(model, "start", "cells").model, threads=1)
        self._random = np.random.default_rng(seed)

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, cells): the map before its ReLU."""
        return np.asarray(self._run(images, np.zeros(len(images)))["cells"])

    def margin(self, clean: NDArray[np.float32], radius: float, k: int, steps: int = 30, restarts: int = 6) -> float:
        """The smallest (last of the top k) - (best of the others, or 0) that was found inside the ball; < 0: broken."""
        order = np.argsort(-self.scores(clean[None])[0], kind="stable")
        top, rest = order[:k], order[k:]
        noise = self._random.uniform(-radius, radius, (restarts, *clean.shape))
        noise[::2] = radius * np.sign(noise[::2])
        x, least = self._inside(clean + noise, clean, radius), np.inf
        for step in range(steps + 1):
            scores = self.scores(x)
            least = min(least, float((scores[:, top].min(1) - np.maximum(scores[:, rest].max(1), 0)).min()))
            if step == steps:
                break
            low = top[scores[:, top].argmin(1)]
            up = rest[scores[:, rest].argmax(1)]
            if step % 5 == 4:  # not always the pair that is nearest
                low, up = self._random.choice(top[-2:], len(x)), self._random.choice(rest[:4], len(x))
            slope = self._run(x, up)["cam_gradients"] - self._run(x, low)["cam_gradients"]
            x = self._inside(x + radius * 0.5 ** (1 + 4 * step / steps) * np.sign(slope), clean, radius)
        return least

    def _run(self, images: NDArray[np.float32], cells: NDArray) -> dict[str, NDArray]:
        return self._session.run({"image": images, "cam_target": np.asarray(cells, np.int64)})

    @staticmethod
    def _inside(x: NDArray, clean: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
        low, high = clean.astype(np.float64) - radius, clean.astype(np.float64) + radius
        found = np.clip(x, low, high).astype(np.float32)
        # Rounded to float32 a value may have left the ball.
        found = np.where(found > high, np.nextafter(found, np.float32(-np.inf)), found)
        return np.where(found < low, np.nextafter(found, np.float32(np.inf)), found)
