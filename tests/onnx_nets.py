"""Small classifiers written as ONNX graphs, and what tests ask of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

RNG = np.random.default_rng(6)
CLASSES = 7


def restart(seed: int = 6) -> None:
    """Let the weights and images that follow be the same whatever ran before."""
    RNG.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def weights(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)


def model(
    nodes,
    constants,
    *,
    batch: int | str = "N",
    size=12,
    opset=18,
    outputs=("logits",),
    kind=TensorProto.FLOAT,
    ir=8,
    **extra,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, [batch, 3, size, size])],
        [helper.make_value_info(o, helper.make_tensor_type_proto(kind, None)) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    return onnx.shape_inference.infer_shapes(made)


def body() -> tuple[list, dict]:
    """Two convolutions with normalisation; the layer to explain is ``features`` (N, 6, 6, 6)."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c1", "s1", "b1", "m1", "v1"], ["n1"], name="norm"),
        helper.make_node("Relu", ["n1"], ["a1"], name="act1"),
        helper.make_node("Conv", ["a1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c2", "s2", "b2", "m2", "v2"], ["n2"], name="norm2"),
        helper.make_node("Relu", ["n2"], ["features"], name="act2"),
    ]
    constants: dict[str, np.ndarray] = {"w1": weights(8, 3, 3, 3), "w2": weights(6, 8, 3, 3)}
    for i, channels in ((1, 8), (2, 6)):
        constants |= {
            f"s{i}": 1 + 0.3 * weights(channels), f"b{i}": 0.2 + 0.1 * weights(channels),
            f"m{i}": 0.1 * weights(channels), f"v{i}": 1 + np.abs(weights(channels)),
        }  # fmt: skip
    return nodes, constants


def linear_head(name: str = "logits") -> tuple[list, dict]:
    nodes = [
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "wh", "bh"], [name], name="head", transB=1),
    ]
    return nodes, {"wh": weights(CLASSES, 6), "bh": weights(CLASSES)}


def classifier(head: Callable | None = None, tail: list | None = None, **settings) -> ModelProto:
    nodes, constants = body()
    more, extra = (head or linear_head)()
    return model([*nodes, *more, *(tail or [])], {**constants, **extra}, **settings)


def images(count: int, size: int = 12) -> np.ndarray:
    return RNG.standard_normal((count, 3, size, size)).astype(np.float32)


def as_double(source: ModelProto) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(source)
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for info in (*made.graph.input, *made.graph.output):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    return made


def stored_twice(made: ModelProto) -> list[str]:
    seen, twice = set(), []
    for tensor in made.graph.initializer:
        data = numpy_helper.to_array(tensor)
        key = hashlib.sha256(data.tobytes()).digest()
        if data.nbytes > 1024 and key in seen:
            twice.append(tensor.name)
        seen.add(key)
    return twice


def conv_head():
    nodes = [
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Conv", ["pooled", "wh", "bh"], ["maps"]),
        helper.make_node("Flatten", ["maps"], ["logits"]),
    ]
    return nodes, {"wh": weights(CLASSES, 6, 1, 1), "bh": weights(CLASSES)}


def matmul_head():
    nodes = [
        helper.make_node("ReduceMean", ["features", "hw"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "wh"], ["product"]),
        helper.make_node("Add", ["product", "bh"], ["logits"]),
    ]
    return nodes, {"wh": weights(6, CLASSES), "bh": weights(CLASSES), "hw": np.array([2, 3])}


def deep_head():
    nodes = [
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("Gemm", ["flat", "wa", "ba"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "wh", "bh"], ["logits"], transB=1),
    ]
    return nodes, {"wa": weights(20, 216), "ba": weights(20), "wh": weights(CLASSES, 20), "bh": weights(CLASSES)}


def gated_head():
    """Squeeze and excitation, then pooling: the layer is used twice."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["features"], ["squeezed"]),
        helper.make_node("Conv", ["squeezed", "we"], ["excited"]),
        helper.make_node("Sigmoid", ["excited"], ["gate"]),
        helper.make_node("Mul", ["features", "gate"], ["gated"]),
        helper.make_node("GlobalMaxPool", ["gated"], ["pooled"]),
        helper.make_node("Squeeze", ["pooled", "hw"], ["flat"]),
        helper.make_node("Gemm", ["flat", "wh"], ["logits"], transB=1),
    ]
    return nodes, {"we": weights(6, 6, 1, 1), "wh": weights(CLASSES, 6), "hw": np.array([2, 3])}


def token_classifier() -> ModelProto:
    """Patches and a class token, one attention without projections, the class token decides."""
    nodes = [
        helper.make_node("Conv", ["image", "wp"], ["patches"], strides=[3, 3]),
        helper.make_node("Reshape", ["patches", "flat_shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "rest"], ["class_shape"], axis=0),
        helper.make_node("Expand", ["class_token", "class_shape"], ["class_tokens"]),
        helper.make_node("Concat", ["class_tokens", "tokens"], ["stream"], axis=1),
        helper.make_node("LayerNormalization", ["stream", "g", "h"], ["normed"]),
        helper.make_node("Transpose", ["normed"], ["keys"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["normed", "keys"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"]),
        helper.make_node("MatMul", ["weights", "normed"], ["mixed"]),
        helper.make_node("Add", ["stream", "mixed"], ["out"]),
        helper.make_node("Gather", ["out", "zero"], ["first"], axis=1),
        helper.make_node("Gemm", ["first", "wh"], ["logits"], transB=1),
    ]
    constants = {
        "wp": weights(5, 3, 3, 3), "flat_shape": np.array([0, 5, 16]), "rest": np.array([1, 5]),
        "class_token": weights(1, 1, 5), "g": 1 + weights(5), "h": weights(5), "zero": np.array(0),
        "wh": weights(CLASSES, 5),
    }  # fmt: skip
    return model(nodes, constants)


def quantised_classifier() -> ModelProto:
    """The same two convolutions, without normalisation, in QDQ form: per channel for the weights."""
    nodes, constants = [], {}

    def pair(name: str, scale: float, zero: int) -> str:
        constants.update({f"{name}_s": np.array(scale, np.float32), f"{name}_z": np.array(zero, np.uint8)})
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_dq"]))
        return f"{name}_dq"

    def filters(name: str, *shape: int) -> str:
        real = weights(*shape)
        scales = (np.abs(real).reshape(shape[0], -1).max(1) / 127).astype(np.float32)
        rounded = np.round(real / scales.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
        constants.update({f"{name}_q": rounded, f"{name}_s": scales, f"{name}_z": np.zeros(shape[0], np.int8)})
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [name], axis=0))
        return name

    image = pair("image", 0.03, 128)
    first = filters("w1", 8, 3, 3, 3)
    nodes.append(helper.make_node("Conv", [image, first], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]))
    nodes.append(helper.make_node("Relu", ["c1"], ["a1"]))
    middle = pair("a1", 0.02, 0)
    second = filters("w2", 6, 8, 3, 3)
    nodes.append(helper.make_node("Conv", [middle, second], ["c2"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["c2"], ["features"]))
    last = pair("features", 0.01, 0)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", [pair("pooled", 0.01, 0)], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", filters("wh", CLASSES, 6)], ["logits"], transB=1))
    return model(nodes, constants)


def keras_classifier(*, optimised: bool) -> ModelProto:
    """As tf2onnx writes a Keras network: NHWC outside, Transpose around what ONNX has in NCHW only.

    optimised: tf2onnx has moved the transpositions together, so that only the first is left.
    """
    nodes: list = []
    constants: dict[str, np.ndarray] = {}
    to_nchw, to_nhwc = [0, 3, 1, 2], [0, 2, 3, 1]

    def add(op: str, inputs: list[str], name: str, **attributes) -> str:
        # Keras writes its layers' paths into the names, and the index of the TensorFlow output behind them.
        nodes.append(helper.make_node(op, inputs, [f"model/{name}:0"], name=f"model/{name}", **attributes))
        return f"model/{name}:0"

    def weight(name: str, array: np.ndarray) -> str:
        constants[name] = array
        return name

    def layer(op: str, inputs: list[str], name: str, **attributes) -> str:
        """An NCHW operator on an NHWC value."""
        if optimised:
            return add(op, inputs, name, **attributes)
        turned = add("Transpose", [inputs[0]], f"{name}__t1", perm=to_nchw)
        made = add(op, [turned, *inputs[1:]], name + "_nchw", **attributes)
        return add("Transpose", [made], name, perm=to_nhwc)

    def bias(value: str, name: str, channels: int) -> str:
        shift = 0.1 + 0.1 * weights(channels)
        shift = shift.reshape(1, channels, 1, 1) if optimised else shift
        return add("Add", [value, weight(f"{name}/bias", shift)], f"{name}/BiasAdd")

    x = "input_1"
    if optimised:
        x = add("Transpose", [x], "stem__6", perm=to_nchw)
    x = layer("Conv", [x, weight("stem/kernel", weights(8, 3, 3, 3))], "stem", strides=[2, 2], auto_pad="SAME_UPPER")
    x = add(
        "Clip",
        [bias(x, "stem", 8), weight("zero", np.array(0, np.float32)), weight("six", np.array(6, np.float32))],
        "relu6",
    )
    y = layer("Conv", [x, weight("dw/kernel", weights(8, 1, 3, 3))], "dw", group=8, pads=[1, 1, 1, 1])
    statistics = [weight(f"bn/{n}", np.abs(weights(8)) + 1) for n in ("gamma", "beta", "mean", "variance")]
    y = add("Relu", [layer("BatchNormalization", [y, *statistics], "bn", epsilon=1e-3)], "relu")
    x = add("Add", [x, y], "add")
    x = layer("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = add("Relu", [bias(layer("Conv", [x, weight("top/kernel", weights(6, 8, 1, 1))], "top"), "top", 6)], "top_relu")
    axes = weight("axes", np.array([2, 3] if optimised else [1, 2]))
    x = add("ReduceMean", [x, axes], "gap/Mean", keepdims=0)
    x = add("MatMul", [x, weight("fc/kernel", weights(6, CLASSES))], "fc/MatMul")
    x = add("Add", [x, weight("fc/bias", weights(CLASSES))], "fc/BiasAdd")
    nodes.append(helper.make_node("Softmax", [x], ["predictions"], name="model/Softmax"))
    graph = helper.make_graph(
        nodes,
        "tf2onnx",
        [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, ["unk__100", 12, 12, 3])],
        [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, ["unk__101", CLASSES])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="tf2onnx")
