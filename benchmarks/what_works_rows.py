"""The rows of `what_works.py`: small models of every kind that people bring, and what is said of each.

All of them are an image of 32 x 32, a convolution with a grid of 8 x 8 (called ``last``), a pooling and ``logits``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cfcam.export import export_onnx
from cfcam.export.report import ExportReport
from onnx import ModelProto, TensorProto, TypeProto, helper, numpy_helper

__all__ = ["CLASSES", "GROUPS", "ROWS", "Row"]

CLASSES = 5
GROUPS = ("Inputs", "Heads", "Batches", "Operators", "PyTorch", "Quantisers")
BY_LABEL = -1
FLOAT, FLOAT16, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
Head = Callable[["Net"], str]


@dataclass(frozen=True)
class Row:
    """group, what: where it stands and what it is. run: exports it into a folder.

    refused: words of the sentence; "" where it works, and then `score` and `grid` are those of the file.
    """

    group: str
    what: str
    run: Callable[[Path], ExportReport]
    refused: str = ""
    score: str = "logits"
    grid: tuple[int, int] = (8, 8)


ROWS: list[Row] = []


@dataclass
class Net:
    """A network in the making."""

    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)

    def __call__(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [out], name=f"n_{out}", **attributes))
        return out

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values, kind), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def random(self, *shape: int, kind: Any = np.float32) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        return self.constant(np.random.default_rng(len(self.weights)).standard_normal(shape) / fan**0.5, kind)


def trunk(net: Net, image: str = "image", channels: int = 3, kind: Any = np.float32, kernel: int = 4) -> str:
    """The features of an image, and their logits."""
    size = [kernel, kernel]
    made = net("Conv", image, net.random(16, channels, *size, kind=kind), strides=size, kernel_shape=size)
    pooled = net("Flatten", net("GlobalAveragePool", net("Relu", made, out="last")), out="features")
    return net(
        "Gemm",
        pooled,
        net.constant(3 * np.eye(16)[:CLASSES], kind),
        net.random(CLASSES, kind=kind),
        transB=1,
        out="logits",
    )


def model(
    head: Head,
    image: list[Any] | None = None,
    kind: int = FLOAT,
    opset: int = 18,
    outputs: Mapping[str, int] | None = None,
) -> ModelProto:
    net = Net()
    out = head(net)
    shape = image or ["N", 3, 32, 32]
    given = outputs or {out: FLOAT if kind == UINT8 else kind}
    graph = helper.make_graph(
        net.nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, shape), *net.inputs],
        [helper.make_value_info(name, _type(one)) for name, one in given.items()],
        net.weights,
    )
    imports = [
        helper.make_opsetid("", opset),
        helper.make_opsetid("ai.onnx.ml", 3),
        helper.make_opsetid("com.example", 1),
    ]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _type(kind: int) -> TypeProto:
    """Of a tensor; of a list of dictionaries from text to number for `BY_LABEL`."""
    if kind != BY_LABEL:
        return helper.make_tensor_type_proto(kind, None)
    number = helper.make_tensor_type_proto(FLOAT, [])
    return helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.STRING, number))


def onnx_row(
    group: str,
    what: str,
    head: Head,
    *,
    refused: str = "",
    score: str = "logits",
    grid: tuple[int, int] = (8, 8),
    options: Mapping[str, Any] | None = None,
    change: Callable[[Path], Path] | None = None,
    **form: Any,
) -> None:
    def run(folder: Path) -> ExportReport:
        path = folder / "net.onnx"
        onnx.save(model(head, **form), path)
        return export_onnx(change(path) if change else path, folder / "net.cam.onnx", **(options or {}))

    ROWS.append(Row(group, what, run, refused, score, grid))


# -- inputs


def upright(net: Net) -> str:
    return trunk(net, net("Transpose", "image", perm=[0, 3, 1, 2]))


def normalised(net: Net) -> str:
    pixels = net("Cast", net("Transpose", "image", perm=[0, 3, 1, 2]), to=FLOAT)
    return trunk(net, net("Div", net("Sub", pixels, net.constant(127.5)), net.constant(127.5)))


def with_metadata(net: Net) -> str:
    net.inputs.append(helper.make_tensor_value_info("age", FLOAT, ["N", 1]))
    return net("Add", trunk(net), net("MatMul", "age", net.random(1, CLASSES)), out="scores")


def perceptron(net: Net) -> str:
    flat = net("Relu", net("Gemm", net("Flatten", "image"), net.random(8, 3 * 32 * 32), transB=1))
    return net("Gemm", flat, net.random(CLASSES, 8), transB=1, out="logits")


onnx_row("Inputs", "colour, NCHW, float32", trunk)
onnx_row("Inputs", "colour, NHWC, float32", upright, image=["N", 32, 32, 3])
onnx_row("Inputs", "uint8 pixels, NHWC, normalised in the graph", normalised, image=["N", 32, 32, 3], kind=UINT8)
onnx_row("Inputs", "float16", lambda n: trunk(n, kind=np.float16), kind=FLOAT16)
onnx_row("Inputs", "one channel", lambda n: trunk(n, channels=1), image=["N", 1, 32, 32])
onnx_row("Inputs", "four channels", lambda n: trunk(n, channels=4), image=["N", 4, 32, 32])
onnx_row("Inputs", "not square", trunk, image=["N", 3, 32, 96], grid=(8, 24))
onnx_row("Inputs", "a strip, whose grid has one row", trunk, image=["N", 3, 4, 128], grid=(1, 32))
onnx_row("Inputs", "a size that is free", trunk, image=["N", 3, "H", "W"], refused="--input-size")
onnx_row("Inputs", "the same with `--input-size 32`", trunk, image=["N", 3, "H", "W"], options={"input_size": (32, 32)})
onnx_row("Inputs", "an image and metadata", with_metadata, refused="--input age=")
onnx_row(
    "Inputs", "the same with `--input age=0`", with_metadata, options={"inputs": {"age": np.zeros((1, 1), np.float32)}}
)
onnx_row("Inputs", "no grid at all (a perceptron)", perceptron, refused="no layer with a grid")

# -- heads


def behind(*steps: tuple[Any, ...]) -> Head:
    """Operators behind the logits, each with its further inputs as numbers: (operator, attributes, numbers...)."""

    def head(net: Net) -> str:
        value = trunk(net)
        for operator, attributes, *numbers in steps:
            value = net(
                operator,
                value,
                *(net.constant(n, np.asarray(n).dtype if isinstance(n, np.ndarray) else np.float32) for n in numbers),
                **attributes,
            )
        return value

    return head


SOFTMAX, SIGMOID = ("Softmax", {"axis": 1}), ("Sigmoid", {})
STEP, ZERO = np.float32(1 / 255), np.array(0, np.uint8)
ONE_COLUMN = ("Gather", {"axis": 1}, np.array([0]))


def written_out(net: Net) -> str:
    powers = net("Exp", trunk(net))
    return net("Div", powers, net("ReduceSum", powers, net.constant([1], np.int64), keepdims=1))


def sigmoid_written_out(net: Net) -> str:
    return net("Div", net.constant(1.0), net("Add", net.constant(1.0), net("Exp", net("Neg", trunk(net)))))


def two_views(net: Net) -> str:
    trunk(net)
    shares = net("Softmax", "logits", axis=1)
    again = net("Softmax", net("Add", "logits", net.constant(0.5)), axis=1)
    return net("Mul", net("Add", shares, again), net.constant(0.5))


def unseen(net: Net) -> str:
    """Positive numbers, divided by their sum: probabilities of another making."""
    positive = net("Softplus", trunk(net))
    return net("Div", positive, net("ReduceSum", positive, net.constant([1], np.int64), keepdims=1), out="shares")


def best_three(net: Net) -> str:
    trunk(net)
    net.nodes.append(
        helper.make_node("TopK", [net("Softmax", "logits", axis=1), net.constant([3], np.int64)], ["best", "which"])
    )
    return "best"


def dictionary(net: Net) -> str:
    shares = net("Softmax", trunk(net), axis=1)
    labels = [f"class {k}" for k in range(CLASSES)]
    return net("ZipMap", shares, out="by_label", domain="ai.onnx.ml", classlabels_strings=labels)


def embedding(net: Net) -> str:
    return net("LpNormalization", trunk(net), axis=1, p=2)


def several(net: Net) -> str:
    net("Gemm", (trunk(net), "features")[1], net.random(1, 16), transB=1, out="age")
    return "age"


onnx_row("Heads", "logits", trunk)
onnx_row("Heads", "softmax", behind(SOFTMAX), score="softmax")
onnx_row(
    "Heads",
    "softmax with Q/DQ behind it",
    behind(SOFTMAX, ("QuantizeLinear", {}, STEP, ZERO), ("DequantizeLinear", {}, STEP, ZERO)),
    score="softmax",
)
onnx_row("Heads", "softmax, then Clip", behind(SOFTMAX, ("Clip", {}, 1e-7, 1.0)), score="softmax")
onnx_row("Heads", "softmax in percent", behind(SOFTMAX, ("Mul", {}, 100.0)), score="softmax")
onnx_row("Heads", "exp / sum, written out", written_out, score="softmax")
onnx_row("Heads", "softmax of two views, averaged", two_views, score="softmax")
onnx_row("Heads", "log-softmax", behind(("LogSoftmax", {"axis": 1})))
onnx_row("Heads", "a sigmoid for each class", behind(SIGMOID), score="sigmoid")
onnx_row("Heads", "1 / (1 + exp(-x)), written out", sigmoid_written_out, score="sigmoid")
onnx_row("Heads", "one logit", behind(ONE_COLUMN), score="binary")
onnx_row("Heads", "one logit with its sigmoid", behind(ONE_COLUMN, SIGMOID), score="binary")
onnx_row(
    "Heads",
    "a value, with `--score-kind regression`",
    behind(ONE_COLUMN),
    score="regression",
    options={"score_kind": "regression"},
)
onnx_row("Heads", "TopK of a softmax", best_three, score="softmax", outputs={"best": FLOAT, "which": TensorProto.INT64})
onnx_row(
    "Heads",
    "ArgMax alone",
    behind(("ArgMax", {"axis": 1, "keepdims": 0, "out": "which"})),
    outputs={"which": TensorProto.INT64},
)
onnx_row("Heads", "ZipMap: a dictionary by label", dictionary, score="softmax", outputs={"by_label": BY_LABEL})
onnx_row("Heads", "several outputs: a value and classes", several, outputs={"age": FLOAT, "logits": FLOAT})
onnx_row("Heads", "probabilities of another making", unseen, refused="they are probabilities, not logits")
onnx_row("Heads", "the same with `--score-kind softmax`", unseen, score="softmax", options={"score_kind": "softmax"})
onnx_row("Heads", "an embedding of length 1", embedding, refused="an embedding, which has no classes")
onnx_row(
    "Heads",
    "the same with `--reference FILE.npy`",
    embedding,
    score="regression",
    options={"reference": np.arange(1.0, 6.0)},
)
onnx_row(
    "Heads",
    "a mask for each class (segmentation)",
    lambda n: n("Conv", (trunk(n), "last")[1], n.random(4, 16, 1, 1)),
    refused="a detector or a segmenter",
)

# -- batches

onnx_row("Batches", "of any size", trunk)
onnx_row("Batches", "fixed at 4", trunk, image=[4, 3, 32, 32])
onnx_row("Batches", "a size of -1", trunk, image=[-1, 3, 32, 32])
onnx_row("Batches", "scores without a batch: reshape(-1)", behind(("Reshape", {}, np.array([-1]))))
onnx_row("Batches", "Squeeze without axes", behind(("Squeeze", {})))
onnx_row(
    "Batches",
    "classes by images: (classes, N)",
    behind(("Transpose", {"perm": [1, 0]})),
    refused="expected one row per image",
)
onnx_row(
    "Batches",
    "a softmax over the batch",
    behind(("Softmax", {"axis": 0})),
    refused="the model has no answer for one image",
)
