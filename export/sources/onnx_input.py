"""The image input of an ONNX classifier: which one it is, and what its shape says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto, helper

from ..errors import ExportError
from ..graph.graph import Dim, attribute, type_of

__all__ = ["ImageInput", "empty_batch", "fix_batch", "image_input"]

Dtype = Literal["float32", "float16", "uint8", "int8"]

_DTYPES: dict[int, Dtype] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}
#: Channels are fewer than pixels by at least this factor where nothing else shows which they are.
_FAR = 4
#: What may stand between the image and the operator that shows its layout: nothing that moves an axis.
_IN_PLACE = frozenset(
    {"Add", "Cast", "Clip", "DequantizeLinear", "Div", "Identity", "Mul", "Pad", "QuantizeLinear", "Sub"}
)


@dataclass(frozen=True)
class ImageInput:
    """name; layout; height and width in pixels; channels; dtype; batch: its fixed size, or None.

    metadata: what the file says about images, by the names of ONNX's metadata (``Image.BitmapPixelFormat``, ...).
    """

    name: str
    layout: Literal["NCHW", "NHWC"]
    height: int
    width: int
    channels: int
    dtype: Dtype
    batch: int | None
    metadata: dict[str, str] = field(default_factory=dict)


def image_input(
    model: ModelProto, size: tuple[int, int] | None = None, channels: int | None = None, fixed: Collection[str] = ()
) -> ImageInput:
    """Find the one image input of `model`, and write what was free about it into the model.

    size: (height, width), for a model that leaves them open. channels: likewise. fixed: names of inputs whose values
    are given. The batch stays free, and gets a name where it had none, so that shape inference can follow it.
    Raises `ExportError` for anything but one batch of images of a known size.
    """
    entry = _image_entry(model, fixed)
    described = f"input '{entry.name}' {_described(entry.type)}"
    kind, shape = type_of(entry.type) or (0, None)
    if shape is None:
        raise ExportError(f"{described}: its shape is not stated, expected (N, C, H, W) or (N, H, W, C)")
    if kind not in _DTYPES:
        raise ExportError(f"{described}: expected {', '.join(_DTYPES.values())}")
    if len(shape) != 4:
        raise ExportError(f"{described}: expected four dimensions, (N, C, H, W) or (N, H, W, C)")
    # Exporters write a free size as -1, and a free batch as 0 too.
    shape = tuple(None if isinstance(d, int) and d < (1 if axis == 0 else 0) else d for axis, d in enumerate(shape))
    if any(isinstance(d, int) and d < 1 for d in shape):
        raise ExportError(f"{described}: has a dimension of {min(d for d in shape if isinstance(d, int))}")
    layout = _layout(model, entry, shape, channels)
    if layout is None:
        raise ExportError(
            f"{described}: which axis holds the channels is not to be seen: say how many there are with --channels"
        )
    axes = (1, 2, 3) if layout == "NCHW" else (3, 1, 2)
    stated, *sides = (shape[a] for a in axes)
    count = _channels(described, stated, channels)
    height, width = _size(described, sides, size)
    batch = shape[0] if isinstance(shape[0], int) else None
    dims = entry.type.tensor_type.shape.dim
    for axis, value in zip(axes, (count, height, width), strict=True):
        dims[axis].dim_value = value
    if batch is None and (not dims[0].dim_param or shape[0] in shape[1:]):
        dims[0].dim_param = "batch"
    said = {entry.key: entry.value for entry in model.metadata_props if entry.key.startswith("Image.")}
    return ImageInput(entry.name, layout, height, width, count, _DTYPES[kind], batch, said)


def _image_entry(model: ModelProto, fixed: Collection[str]) -> ValueInfoProto:
    """The input that is the image: the only one that is not fixed. Raises `ExportError`."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    unknown = [name for name in fixed if name not in {entry.name for entry in inputs}]
    if unknown:
        listed = ", ".join(f"'{entry.name}'" for entry in inputs)
        raise ExportError(f"--input {unknown[0]}: the model has no such input, it has {listed}")
    free = [entry for entry in inputs if entry.name not in fixed]
    if len(free) == 1:
        return free[0]
    if not free:
        raise ExportError("the model takes no input that is not fixed: one has to be the image")
    images = [entry for entry in free if entry.type.denotation == "IMAGE"]
    images = images or [entry for entry in free if len((type_of(entry.type) or (0, ()))[1] or ()) == 4]
    others = [entry for entry in free if len(images) != 1 or entry is not images[0]]
    listed = ", ".join(f"'{entry.name}' {_described(entry.type)}" for entry in others)
    example = (others[-1] if len(images) != 1 else others[0]).name
    image = f" beside the image '{images[0].name}'" if len(images) == 1 else ", of which one has to be the image"
    raise ExportError(
        f"the model takes {len(free)} inputs: {listed}{image}: fix every other one with --input NAME=VALUE or "
        f"NAME=FILE.npy, such as --input {example}={example}.npy (inputs={{'{example}': array}} in Python); its value "
        "is kept in the file"
    )


def _channels(described: str, stated: Dim, asked: int | None) -> int:
    if isinstance(stated, int):
        if asked not in (None, stated):
            raise ExportError(f"{described}: has {stated} channels, not {asked}")
        return stated
    return asked or 3


def empty_batch(model: ModelProto) -> bool:
    """Whether an input states a batch of 0, which ONNX Runtime takes by its word."""
    first = [entry.type.tensor_type.shape.dim[:1] for entry in model.graph.input]
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dims in first for dim in dims)


def fix_batch(model: ModelProto, image: ImageInput) -> ImageInput:
    """Write a batch of one into the model, whose batch was free; the input as it is then."""
    entry = next(entry for entry in model.graph.input if entry.name == image.name)
    symbol = entry.type.tensor_type.shape.dim[0].dim_param
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if symbol and dim.dim_param == symbol:
                dim.dim_value = 1
    return replace(image, batch=1)


def _size(described: str, stated: list[Dim], size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        if not all(isinstance(d, int) for d in stated):
            raise ExportError(f"{described}: height and width are free, say which with --input-size")
        height, width = (int(d or 0) for d in stated)
        return height, width
    if any(isinstance(have, int) and have != want for have, want in zip(stated, size, strict=True)):
        wanted = "x".join(str(d) for d in size)
        raise ExportError(f"{described}: its size is fixed in the file, it cannot become {wanted}")
    return size


def _layout(
    model: ModelProto, entry: ValueInfoProto, shape: tuple[Dim, ...], asked: int | None
) -> Literal["NCHW", "NHWC"] | None:
    """Where the channels are.

    The axis that the file denotes so; else that of the number that is asked for, of 3 or of 1; else by what reads the
    input first; else the axis that is far shorter than any side of an image.
    """
    denoted = [dim.denotation for dim in entry.type.tensor_type.shape.dim]
    if "DATA_CHANNEL" in denoted:
        return "NCHW" if denoted[1] == "DATA_CHANNEL" else "NHWC" if denoted[3] == "DATA_CHANNEL" else None
    for channels in (3, 1) if asked is None else (asked,):
        if shape[1] == channels and shape[3] != channels:
            return "NCHW"
        if shape[3] == channels and shape[1] != channels:
            return "NHWC"
    if shape[1] == shape[3] == 3:
        return "NCHW"
    read = _by_reader(model, entry.name)
    if read is not None or not all(isinstance(d, int) for d in shape[1:]):
        return read
    first, second, last = (int(d or 0) for d in shape[1:])
    if first * _FAR <= min(second, last):
        return "NCHW"
    return "NHWC" if last * _FAR <= min(first, second) else None


def _by_reader(model: ModelProto, name: str) -> Literal["NCHW", "NHWC"] | None:
    """The layout that the first operator shows which is not element by element."""
    same = {name}
    for node in model.graph.node:
        if not node.input or (node.input[0] not in same and not (node.op_type in _IN_PLACE and same & {*node.input})):
            continue
        if node.op_type == "Conv" or (node.op_type == "QLinearConv" and node.domain in ("", "ai.onnx")):
            return "NCHW"
        if node.op_type == "Transpose":
            perm = list(attribute(node, "perm", []))
            return {(0, 3, 1, 2): "NHWC", (0, 2, 3, 1): "NCHW"}.get(tuple(perm))  # type: ignore[return-value]
        if node.op_type not in _IN_PLACE:
            return None
        same.update(node.output[:1])
    return None


def _described(proto: TypeProto) -> str:
    found = type_of(proto)
    if found is None:
        return "(no tensor)"
    kind, shape = found
    dims = "unknown shape" if shape is None else "(" + ", ".join(str("?" if d is None else d) for d in shape) + ")"
    return f"{helper.tensor_dtype_to_np_dtype(kind).name} {dims}"
