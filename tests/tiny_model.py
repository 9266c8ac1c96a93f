"""A real, tiny ``.cam.onnx`` whose every number can be computed by hand.

Conv (4x4 tiles) -> Relu -> global average pool -> Gemm. Channels look for a colour, so the map
of class "red" must light up where a photo is red: geometry can be tested end to end. The gradient
of a logit at the Relu is row W[c] / (h * w), gathered in the graph.

Building needs onnx; `reference` and everything else needs only numpy, so that tests can run
where there is no onnx on files that were built before: by ``python tests/tiny_model.py``, or by any
test that asks for one (see conftest.py).
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from cfcam.runtime.contract import spec as contract
from cfcam.runtime.contract.spec import (
    METADATA_KEY,
    CamSpec,
    InputSpec,
    LayerSpec,
    OutputSpec,
    ResizeSpec,
    SourceSpec,
    TailSpec,
)
from filelock import FileLock

if TYPE_CHECKING:
    import onnx

__all__ = ["FIXTURES", "LABELS", "VARIANTS", "WITH_TAIL", "TinyModel", "build", "build_all", "reference"]

#: Where tests find the files.
FIXTURES = Path(__file__).resolve().parents[1] / "build" / "fixtures"
#: Class 5 has no weights: its gradient is zero everywhere, on purpose.
LABELS = ("red", "green", "blue", "bright", "dark, black", "nothing")
_TILE = 4
_SHORTER = ResizeSpec(mode="shorter", size=56)


@dataclass(frozen=True)
class TinyModel:
    """One variant of the model; `spec` is what is written into the file."""

    height: int = 32
    width: int = 48
    resize: ResizeSpec = _SHORTER
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    color: Literal["rgb", "bgr", "gray"] = "rgb"
    dtype: Literal["float32", "float16"] = "float32"
    kind: Literal["logits", "softmax", "sigmoid", "binary"] = "logits"
    labels: tuple[str, ...] | None = LABELS
    batch: int | str = "N"
    logits_too: bool = False
    metadata: bool = True
    tail: bool = False

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    @property
    def classes(self) -> int:
        return 1 if self.kind == "binary" else len(LABELS)

    @property
    def grid(self) -> tuple[int, int]:
        return self.height // _TILE, self.width // _TILE

    @property
    def spec(self) -> CamSpec:
        return CamSpec(
            input=InputSpec(
                name="image",
                layout=self.layout,
                height=self.height,
                width=self.width,
                dtype=self.dtype,
                color=self.color,
                scale=1 / 255,
                mean=(0.5,) * self.channels,
                std=(0.25,) * self.channels,
                resize=self.resize,
            ),
            output=OutputSpec(
                name="scores" if self.kind in ("logits", "binary") else "probabilities",
                kind=self.kind,
                score="scores",
                classes=self.classes,
                labels=self.labels[: self.classes] if self.labels else None,
            ),
            layers=(
                LayerSpec(name="relu", value="cam_activations", channels=len(LABELS) + 2, grid=self.grid, pooled=True),
            ),
            source=SourceSpec(kind="onnx", name="tiny", sha256="0" * 64),
        )

    def weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Kernel (8, C, 4, 4), its bias (8,), matrix (K, 8), its bias (K,); float32."""
        random = np.random.RandomState(7)
        mixes = np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1], [1, 1, 1], [-1, -1, -1]], np.float32)
        if self.color == "bgr":
            mixes = mixes[:, ::-1]
        if self.color == "gray":
            mixes = mixes.sum(axis=1, keepdims=True)
        flat = np.repeat(mixes[:, :, None], _TILE * _TILE, axis=2).reshape(5, self.channels, _TILE, _TILE) / _TILE**2
        edges = random.standard_normal((3, self.channels, _TILE, _TILE)) * 0.1
        kernel = np.concatenate([flat, edges]).astype(np.float32)
        matrix = random.standard_normal((len(LABELS), 8)).astype(np.float32) * 0.02
        matrix[np.arange(5), np.arange(5)] += 2.0
        matrix[5] = 0
        bias = np.array([0.1, -0.1, 0.2, 0.0, 0.0, -0.3], np.float32)
        return kernel, random.uniform(0, 0.05, 8).astype(np.float32), matrix[: self.classes], bias[: self.classes]


#: Files that `build_all` writes: name -> model.
VARIANTS: dict[str, TinyModel] = {
    "logits": TinyModel(),
    "softmax": TinyModel(kind="softmax"),
    "softmax-and-logits": TinyModel(kind="softmax", logits_too=True),
    "sigmoid": TinyModel(kind="sigmoid"),
    "binary": TinyModel(kind="binary"),
    "nhwc": TinyModel(layout="NHWC"),
    "bgr": TinyModel(color="bgr"),
    "gray": TinyModel(color="gray"),
    "float16": TinyModel(dtype="float16"),
    "stretch": TinyModel(resize=ResizeSpec(mode="stretch", crop="none")),
    "pad": TinyModel(resize=ResizeSpec(mode="pad", crop="none")),
    "unlabelled": TinyModel(labels=None),
    "fixed-batch": TinyModel(batch=2),
    "plain": TinyModel(metadata=False),
}
#: More of them, each with the file of its tail beside it.
WITH_TAIL: dict[str, TinyModel] = {
    "tail": TinyModel(tail=True),
    "tail-nhwc": TinyModel(tail=True, layout="NHWC"),
    "tail-float16": TinyModel(tail=True, dtype="float16"),
    "tail-fixed-batch": TinyModel(tail=True, batch=2),
    "tail-softmax": TinyModel(tail=True, kind="softmax"),
    "tail-sigmoid": TinyModel(tail=True, kind="sigmoid"),
    "tail-binary": TinyModel(tail=True, kind="binary"),
}


def reference(model: TinyModel, image: np.ndarray, target: int = -1) -> dict[str, Any]:
    """What the file must answer for one tensor in the model's layout, in float64.

    Returns activations (8, h, w), gradients (8, h, w), logits (K,), chosen (int).
    """
    x = np.moveaxis(image, -1, 0) if model.layout == "NHWC" else image
    kernel, kernel_bias, matrix, bias = (w.astype(np.float64) for w in model.weights())
    h, w = model.grid
    tiles = x.astype(np.float64).reshape(model.channels, h, _TILE, w, _TILE)
    activations = np.maximum(np.einsum("kcab,cyaxb->kyx", kernel, tiles) + kernel_bias[:, None, None], 0)
    logits = matrix @ activations.mean(axis=(1, 2)) + bias
    chosen = int(np.argmax(logits)) if target < 0 else target
    gradients = np.broadcast_to(matrix[chosen][:, None, None] / (h * w), activations.shape)
    return {"activations": activations, "gradients": gradients, "logits": logits, "chosen": chosen}


def build(model: TinyModel, path: Path, tail: Path | None = None) -> None:
    """Write the variant `model` to `path`, and its tail, where it has one, to `tail`. Needs onnx."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel, kernel_bias, matrix, bias = model.weights()
    h, w = model.grid
    constants = {
        "kernel": kernel,
        "kernel_bias": kernel_bias,
        "matrix": matrix,
        "bias": bias,
        "zero": np.array(0, np.int64),
        "per_cell": (matrix / (h * w)).astype(np.float32),
        "last_axes": np.array([2, 3], np.int64),
    }
    node = helper.make_node
    nodes: list[onnx.NodeProto] = []
    x = "image"
    if model.dtype == "float16":
        nodes.append(node("Cast", [x], ["image_float32"], to=TensorProto.FLOAT))
        x = "image_float32"
    if model.layout == "NHWC":
        nodes.append(node("Transpose", [x], ["image_nchw"], perm=[0, 3, 1, 2]))
        x = "image_nchw"
    nodes += [
        node("Conv", [x, "kernel", "kernel_bias"], ["conv"], kernel_shape=[_TILE, _TILE], strides=[_TILE, _TILE]),
        node("Relu", ["conv"], ["cam_activations"]),
        node("GlobalAveragePool", ["cam_activations"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"]),
        node("Gemm", ["features", "matrix", "bias"], ["scores"], transB=1),
    ]
    plain = ["scores"]
    if model.kind in ("softmax", "sigmoid"):
        nodes.append(node("Softmax" if model.kind == "softmax" else "Sigmoid", ["scores"], ["probabilities"]))
        plain = ["probabilities", "scores"] if model.logits_too else ["probabilities"]
    nodes += [
        node("ArgMax", ["scores"], ["top"], axis=1, keepdims=0),
        node("Less", ["cam_target", "zero"], ["wants_top"]),
        node("Where", ["wants_top", "top", "cam_target"], ["cam_class"]),
        node("Gather", ["per_cell", "cam_class"], ["rows"], axis=0),
        node("Unsqueeze", ["rows", "last_axes"], ["rows_4d"]),
        node("Shape", ["cam_activations"], ["grid_shape"]),
        node("Expand", ["rows_4d", "grid_shape"], ["cam_gradients"]),
    ]
    n = model.batch
    maps = [n, 8, h, w]
    element = TensorProto.FLOAT16 if model.dtype == "float16" else TensorProto.FLOAT
    size = (model.height, model.width)
    image = [n, model.channels, *size] if model.layout == "NCHW" else [n, *size, model.channels]
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs=[
            helper.make_tensor_value_info("image", element, image),
            helper.make_tensor_value_info("cam_target", TensorProto.INT64, [n]),
        ],
        outputs=[
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [n, model.classes]) for name in plain),
            helper.make_tensor_value_info("cam_activations", TensorProto.FLOAT, maps),
            helper.make_tensor_value_info("cam_gradients", TensorProto.FLOAT, maps),
            helper.make_tensor_value_info("cam_class", TensorProto.INT64, [n]),
        ],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="cfcam-tests"
    )
    spec = model.spec
    if model.tail:
        assert tail is not None
        part = helper.make_graph(
            [one for one in nodes if one.output[0] in ("pooled", "features", "scores")],
            "tail",
            inputs=[helper.make_tensor_value_info("cam_activations", TensorProto.FLOAT, maps)],
            outputs=[helper.make_tensor_value_info("scores", TensorProto.FLOAT, [n, model.classes])],
            initializer=[numpy_helper.from_array(constants[name], name) for name in ("matrix", "bias")],
        )
        onnx.save(helper.make_model(part, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(tail))
        sha256 = hashlib.sha256(tail.read_bytes()).hexdigest()
        spec = replace(spec, tail=TailSpec(file=tail.name, sha256=sha256, inputs=("cam_activations",), score="scores"))
    if model.metadata:
        helper.set_model_props(proto, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(proto)
    onnx.save(proto, str(path))


def build_all(folder: Path) -> None:
    """Write every variant into `folder`, unless they are there and up to date; one process at a time."""
    sources = (Path(__file__), Path(contract.__file__))
    stamp, now = folder / "stamp", hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if stamp.exists() and stamp.read_text() == now:
            return
        if importlib.util.find_spec("onnx") is None:
            raise RuntimeError(
                f"{folder} is missing or out of date, and onnx is not installed to build it: "
                "run `python tests/tiny_model.py` once in an environment with `cfcam[onnx]`"
            )
        for name, model in {**VARIANTS, **WITH_TAIL}.items():
            part = folder / f".{name}.part"
            build(model, part, folder / f"{name}.tail.onnx")
            part.replace(folder / f"{name}.cam.onnx")
        stamp.write_text(now)


if __name__ == "__main__":
    build_all(FIXTURES)
