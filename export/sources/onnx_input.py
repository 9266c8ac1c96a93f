"""The image input of an ONNX classifier: which one it is, and what its shape says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from onnx import ModelProto, TensorProto, TypeProto, helper

from ..errors import ExportError
from ..graph.graph import Dim, attribute, type_of

__all__ = ["ImageInput", "empty_batch", "fix_batch", "image_input"]

_DTYPES: dict[int, Literal["float32", "float16"]] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}


@dataclass(frozen=True)
class ImageInput:
    """name; layout; height and width in pixels; channels: 3, or 1; batch: its fixed size, or None."""

    name: str
    layout: Literal["NCHW", "NHWC"]
    height: int
    width: int
    channels: int
    dtype: Literal["float32", "float16"]
    batch: int | None


def image_input(model: ModelProto, size: tuple[int, int] | None = None) -> ImageInput:
    """Find the one image input of `model`, and write what was free about it into the model.

    size: (height, width), for a model that leaves them open. The batch stays free, and gets a
    name where it had none, so that shape inference can follow it.
    Raises `ExportError` for anything but one float batch of images of a known size.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    if len(inputs) != 1:
        listed = ", ".join(f"'{entry.name}' {_described(entry.type)}" for entry in inputs) or "none"
        raise ExportError(f"the model takes {len(inputs)} inputs ({listed}), expected one batch of images")
    entry = inputs[0]
    described = f"input '{entry.name}' {_described(entry.type)}"
    kind, shape = type_of(entry.type) or (0, None)
    if shape is None:
        raise ExportError(f"{described}: its shape is not stated, expected (N, 3, H, W) or (N, H, W, 3)")
    if kind not in _DTYPES:
        advice = "export the model again without the part that prepares the image" if kind == TensorProto.UINT8 else ""
        raise ExportError(f"{described}: expected float32 or float16{': ' * bool(advice)}{advice}")
    if len(shape) != 4:
        raise ExportError(f"{described}: expected four dimensions, (N, 3, H, W) or (N, H, W, 3)")
    # Exporters write a free size as -1, and a free batch as 0 too.
    shape = tuple(None if isinstance(d, int) and d < (1 if axis == 0 else 0) else d for axis, d in enumerate(shape))
    if any(isinstance(d, int) and d < 1 for d in shape):
        raise ExportError(f"{described}: has a dimension of {min(d for d in shape if isinstance(d, int))}")
    layout = _layout(model, entry.name, shape)
    if layout is None:
        raise ExportError(f"{described}: expected 3 channels (or 1), as (N, 3, H, W) or (N, H, W, 3)")
    axes = (1, 2, 3) if layout == "NCHW" else (3, 1, 2)
    channels, *stated = (shape[a] for a in axes)
    height, width = _size(described, stated, size)
    channels = channels if isinstance(channels, int) else 3
    batch = shape[0] if isinstance(shape[0], int) else None
    dims = entry.type.tensor_type.shape.dim
    for axis, value in zip(axes, (channels, height, width), strict=True):
        dims[axis].dim_value = value
    if batch is None and (not dims[0].dim_param or shape[0] in shape[1:]):
        dims[0].dim_param = "batch"
    return ImageInput(entry.name, layout, height, width, channels, _DTYPES[kind], batch)


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


def _layout(model: ModelProto, name: str, shape: tuple[Dim, ...]) -> Literal["NCHW", "NHWC"] | None:
    """Where the channels are: the axis of 3, else of 1; where none is stated, by what reads the input first."""
    for channels in (3, 1):
        if shape[1] == channels and shape[3] != channels:
            return "NCHW"
        if shape[3] == channels and shape[1] != channels:
            return "NHWC"
    if shape[1] == shape[3] == 3:
        return "NCHW"
    if isinstance(shape[1], int) or isinstance(shape[3], int):
        return None if isinstance(shape[1], int) and isinstance(shape[3], int) else _by_reader(model, name)
    return _by_reader(model, name)


def _by_reader(model: ModelProto, name: str) -> Literal["NCHW", "NHWC"] | None:
    for node in model.graph.node:
        if name in node.input and node.op_type == "Conv":
            return "NCHW"
        if name in node.input and node.op_type == "Transpose" and list(attribute(node, "perm", [])) == [0, 3, 1, 2]:
            return "NHWC"
    return None


def _described(proto: TypeProto) -> str:
    found = type_of(proto)
    if found is None:
        return "(no tensor)"
    kind, shape = found
    dims = "unknown shape" if shape is None else "(" + ", ".join(str("?" if d is None else d) for d in shape) + ")"
    return f"{helper.tensor_dtype_to_np_dtype(kind).name} {dims}"
