"""Small classifiers as ONNX graphs, in the forms in which people's files come. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cfcam.export.reverse import LayerView, differentiate
from cfcam.export.writing import set_spec
from cfcam.runtime.contract.spec import CamSpec, InputSpec, LayerSpec, OutputSpec, SourceSpec
from onnx import ModelProto, helper, numpy_helper

__all__ = ["CLASSES", "NETS", "Builder", "exported", "make", "written"]

CLASSES = 7


class Builder:
    """Nodes and random weights, one after the other."""

    def __init__(self, dtype: type[np.floating] = np.float32, seed: int = 0) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(seed)

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """Random numbers, of a size that keeps the variance."""
        fan = float(np.prod(shape[1:])) if len(shape) > 1 else 4.0
        values = self._random.standard_normal(shape) * ((2 / fan) ** 0.5 if scale is None else scale)
        return self.constant(values.astype(self.dtype))

    def constant(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def __call__(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [out], name=f"n_{out}", **attributes))
        return out

    def conv(self, x: str, inner: int, outer: int, size: int = 3, stride: int = 1, out: str | None = None) -> str:
        return self(
            *("Conv", x, self.weight(outer, inner, size, size), self.weight(outer, scale=0.1)),
            out=out, strides=[stride] * 2, pads=[size // 2] * 4,
        )  # fmt: skip

    def model(
        self, outputs: dict[str, list[Any]], image: list[Any], opset: int = 18, kinds: dict[str, Any] | None = None
    ) -> ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", kind, image)],
            [helper.make_tensor_value_info(n, (kinds or {}).get(n, kind), shape) for n, shape in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 9
        return model


def _features(b: Builder, image: str = "image") -> str:
    """Layers "early" (8, 16, 16), "middle" (12, 8, 8) and "last" (16, 8, 8) of an image of 32 x 32."""
    early = b("Relu", b.conv(image, 3, 8, stride=2), out="early")
    middle = b("Relu", b.conv(early, 8, 12, stride=2), out="middle")
    return b("Relu", b.conv(middle, 12, 16), out="last")


def _head(b: Builder, x: str, channels: int = 16, out: str = "logits") -> str:
    pooled = b("Flatten", b("GlobalAveragePool", x))
    return b("Gemm", pooled, b.weight(CLASSES, channels), b.weight(CLASSES), transB=1, out=out)


def plain(batch: Any = "N", size: Any = 32, dtype: type[np.floating] = np.float32) -> ModelProto:
    """Three convolutions, pooling, one linear layer."""
    b = Builder(dtype)
    _head(b, _features(b))
    return b.model({"logits": [batch, CLASSES]}, [batch, 3, size, size] if isinstance(size, int) else [batch, 3, *size])


def half() -> ModelProto:
    return plain(dtype=np.float16)


def softmax() -> ModelProto:
    """Ends in a softmax, and has another output in front of the scores."""
    b = Builder()
    _head(b, _features(b))
    b("Softmax", "logits", out="probabilities")
    return b.model({"last": ["N", 16, 8, 8], "probabilities": ["N", CLASSES]}, ["N", 3, 32, 32])


def binary() -> ModelProto:
    """One logit."""
    b = Builder()
    b("Gemm", b("Flatten", b("GlobalAveragePool", _features(b))), b.weight(16, 1), out="logit")
    return b.model({"logit": ["N", 1]}, ["N", 3, 32, 32])


def multilabel() -> ModelProto:
    """A sigmoid for each class."""
    b = Builder()
    b("Sigmoid", _head(b, _features(b)), out="scores")
    return b.model({"scores": ["N", CLASSES]}, ["N", 3, 32, 32])


def keras() -> ModelProto:
    """Channels last, with the transposes of a converted Keras model."""
    b = Builder()
    x = b("Transpose", "image", perm=[0, 3, 1, 2])
    x = b("Transpose", b("Relu", b.conv(x, 3, 8, stride=4)), perm=[0, 2, 3, 1], out="early")
    x = b("Relu", b("Add", b("MatMul", x, b.weight(8, 12)), b.weight(12, scale=0.1)), out="last")
    pooled = b("ReduceMean", x, b.constant(np.array([1, 2])), keepdims=0)
    b("Softmax", b("Add", b("MatMul", pooled, b.weight(12, CLASSES)), b.weight(CLASSES)), out="probabilities")
    return b.model({"probabilities": ["N", CLASSES]}, ["N", 32, 32, 3])


def tokens(registers: int = 1) -> ModelProto:
    """Patches, class tokens in front, one attention block; the batch is read off the image."""
    b = Builder()
    width = 12
    x = b("Conv", "image", b.weight(width, 3, 8, 8), strides=[8, 8])
    batch = b("Gather", b("Shape", "image"), b.constant(np.array([0])))
    shape = b("Concat", batch, b.constant(np.array([width, 16])), axis=0)
    x = b("Transpose", b("Reshape", x, shape), perm=[0, 2, 1])
    place = b("Concat", batch, b.constant(np.array([registers, width])), axis=0)
    first = b("Expand", b.weight(1, registers, width, scale=1.0), place)
    x = b("Add", b("Concat", first, x, axis=1), b.weight(1, 16 + registers, width, scale=0.3), out="stream")
    y = b("LayerNormalization", x, b.constant(np.ones(width, np.float32)), b.weight(width), axis=-1, out="normed")
    q, k, v = (b("MatMul", y, b.weight(width, width)) for _ in range(3))
    weights = b("Softmax", b("MatMul", q, b("Transpose", k, perm=[0, 2, 1])), axis=-1)
    x = b("Add", x, b("MatMul", weights, v), out="attended")
    head = b(
        "Reshape", b("Gather", x, b.constant(np.array(0)), axis=1), b("Concat", batch, b.constant([width]), axis=0)
    )
    b("Gemm", head, b.weight(width, CLASSES), out="logits")
    return b.model({"logits": ["N", CLASSES]}, ["N", 3, 32, 32])


def branch() -> ModelProto:
    """The layer "inner" lies in a residual branch: the skip goes round it."""
    b = Builder()
    early = b("Relu", b.conv("image", 3, 8, stride=4), out="early")
    inner = b("Relu", b.conv(early, 8, 8), out="inner")
    x = b("Relu", b("Add", b.conv(inner, 8, 8), early), out="sum")
    _head(b, x, 8)
    return b.model({"logits": ["N", CLASSES]}, ["N", 3, 32, 32])


def quantised() -> ModelProto:
    """In QDQ form: int8 weights, uint8 activations, a pooling between quantised values."""
    b = Builder()

    def fake(x: str, step: float) -> str:
        parameters = b.constant(np.float32(step)), b.constant(np.uint8(120))
        return b("DequantizeLinear", b("QuantizeLinear", x, *parameters), *parameters)

    def conv(x: str, inner: int, outer: int, stride: int) -> str:
        weight = b._random.integers(-127, 128, (outer, inner, 3, 3)).astype(np.int8)
        step = b.constant(np.full(outer, 0.3 / (inner * 9) ** 0.5 / 50, np.float32))
        weight = b("DequantizeLinear", b.constant(weight), step, b.constant(np.zeros(outer, np.int8)), axis=0)
        return b("Conv", x, weight, b.weight(outer, scale=0.1), strides=[stride] * 2, pads=[1] * 4)

    x = fake(b("Relu", conv(fake("image", 0.05), 3, 8, 2)), 0.02)
    x = fake(b("Relu", conv(x, 8, 12, 2), out="middle"), 0.02)
    x = fake(b("Relu", conv(x, 12, 16, 1), out="last"), 0.01)
    _head(b, x)
    return b.model({"logits": ["N", CLASSES]}, ["N", 3, 32, 32])


#: Name -> (function that makes it, a layer other than the default).
NETS: dict[str, tuple[Any, str]] = {
    "plain": (plain, "middle"),
    "half": (half, "middle"),
    "softmax": (softmax, "early"),
    "binary": (binary, "middle"),
    "multilabel": (multilabel, "middle"),
    "keras": (keras, "early"),
    "tokens": (tokens, "stream"),
    "branch": (branch, "inner"),
    "quantised": (quantised, "middle"),
}


def make(name: str) -> ModelProto:
    return NETS[name][0]()


def exported(model: ModelProto, layer: str | None = None, view: LayerView | None = None) -> tuple[ModelProto, CamSpec]:
    """The model with its gradients inside, and what a file would say about it (not where the layer is)."""
    made = differentiate(model, layer, view=view)
    found = made.layer
    height, width = found.grid
    assert height is not None
    assert width is not None
    spec = CamSpec(
        input=InputSpec(name="image", height=32, width=32, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3),
        output=OutputSpec(
            name=made.score.output, kind=made.score.kind, score=made.score.value, classes=made.score.classes
        ),
        layers=(
            LayerSpec(
                name=found.name,
                value="a tracer's name",  # so that the walk must find it
                layout=found.layout,
                channels=found.channels,
                grid=(height, width),
                prefix_tokens=found.prefix_tokens,
            ),
        ),
        source=SourceSpec(kind="onnx", name="net", sha256="0" * 64),
    )
    return made.model, spec


def written(folder: Path, name: str = "plain", layer: str | None = None, **options: object) -> tuple[Path, Path]:
    """(exported file, plain model)."""
    source = NETS[name][0](**options)
    model, spec = exported(source, layer)
    changes = {"layout": "NHWC"} if name == "keras" else {"dtype": "float16"} if name == "half" else {}
    image = dataclasses.replace(spec.input, scale=1 / 127.5, mean=(1.0,) * 3, **changes)
    set_spec(model, dataclasses.replace(spec, input=image))
    paths = folder / "net.cam.onnx", folder / "net.onnx"
    onnx.save(model, paths[0])
    onnx.save(source, paths[1])
    return paths
