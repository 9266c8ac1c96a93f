"""Reading and writing ONNX models, and handing them to ONNX's C++ helpers without their weights.

The helpers of the onnx package (shape inference, version converter, inliner, checker) take
serialised models, which stop at 2 GB and double the memory. None of them looks inside a large
weight, so `without_weights` passes the weights as inputs for the duration of the call.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

from ...runtime.contract.modelfile import is_plan
from ...runtime.errors import ModelFileError
from ...runtime.files import atomic_path
from ..wording import first_line
from .checking import check_tensors, check_values

__all__ = ["INLINE_LIMIT", "LARGE_WEIGHT", "load_model", "model_shell", "save_model", "tensor_bytes", "without_weights"]

#: Initializers of more bytes than this are "weights": never copied, never folded into a second one.
LARGE_WEIGHT = 1024

# Protobuf refuses messages of 2 GiB; nodes and metadata need some room too.
INLINE_LIMIT = 2**31 - 2**26


def load_model(path: str | os.PathLike[str]) -> ModelProto:
    """Read an ``.onnx`` file with its external data. Raises `ModelFileError`.

    External data must lie in the file's own folder or below it; the onnx package refuses
    absolute paths, ``..`` and links that lead elsewhere.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelFileError(f"{file}: no such file")
    if is_plan(file):
        raise ModelFileError(f"{file}: is a TensorRT engine, an ONNX file was expected")
    try:
        model = onnx.load(file)
    except Exception as error:  # protobuf, checker and OS errors have no common base
        raise ModelFileError(f"{file}: not a readable ONNX model ({first_line(error)})") from error
    if not model.graph.node and not model.graph.output:
        raise ModelFileError(f"{file}: not an ONNX model, or one without a graph")
    try:
        check_tensors(model)
        check_values(model)
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error}") from error
    return model


def save_model(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """Write `model` atomically; above 2 GB its weights go to ``<name>.data`` beside it.

    Raises `OutputError` when the folder cannot be written.
    """
    final = Path(path)
    weights = sum(tensor_bytes(t) for t in model.graph.initializer)
    if weights < INLINE_LIMIT:
        with atomic_path(final) as temporary:
            temporary.write_bytes(model.SerializeToString())
        return
    data_name = final.name + ".data"
    with atomic_path(final.with_name(data_name)) as data, data.open("wb") as stream:
        slim = ModelProto()
        slim.CopyFrom(model_shell(model))
        for tensor in model.graph.initializer:
            slim.graph.initializer.append(_moved_out(tensor, stream, data_name))
    with atomic_path(final) as temporary:
        temporary.write_bytes(slim.SerializeToString())


def without_weights(model: ModelProto, call: Callable[[ModelProto], ModelProto], *, restore: bool = True) -> ModelProto:
    """`call` applied to `model` with its large weights turned into inputs, then put back.

    The model that is passed shares no weight bytes with `model`; the one that comes back
    holds copies of the weights again, or with `restore` False none of them.
    """
    large = [t for t in model.graph.initializer if tensor_bytes(t) > LARGE_WEIGHT]
    names = {t.name for t in large}
    slim = model_shell(model)
    slim.graph.initializer.extend(t for t in model.graph.initializer if t.name not in names)
    listed = {i.name for i in slim.graph.input}
    added = [t for t in large if t.name not in listed]
    slim.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in added)
    result = call(slim)
    dropped = {t.name for t in added}
    kept = [i for i in result.graph.input if i.name not in dropped]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    if restore:
        result.graph.initializer.extend(large)
    return result


def tensor_bytes(tensor: TensorProto) -> int:
    """Size of a tensor's data in bytes, from its shape and type."""
    if tensor.data_type == TensorProto.STRING:
        return sum(len(s) for s in tensor.string_data)
    if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4):
        bits = 4
    else:
        bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.prod(tensor.dims) * bits // 8


def model_shell(model: ModelProto) -> ModelProto:
    """`model` without initializers; nodes and everything small are copied."""
    shell = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(shell, field.name).extend(value)
        elif field.message_type is not None:
            getattr(shell, field.name).CopyFrom(value)
        else:
            setattr(shell, field.name, value)
    graph = GraphProto()
    for field, value in model.graph.ListFields():
        if field.name == "initializer":
            continue
        if field.is_repeated:
            getattr(graph, field.name).extend(value)
        else:
            setattr(graph, field.name, value)
    shell.graph.CopyFrom(graph)
    return shell


def _moved_out(tensor: TensorProto, stream, data_name: str) -> TensorProto:
    if tensor_bytes(tensor) <= LARGE_WEIGHT or not tensor.HasField("raw_data"):
        return tensor
    moved = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    moved.data_location = TensorProto.EXTERNAL
    stream.write(b"\0" * (-stream.tell() % 4096))
    for key, value in (("location", data_name), ("offset", stream.tell()), ("length", len(tensor.raw_data))):
        entry = moved.external_data.add()
        entry.key, entry.value = key, str(value)
    stream.write(tensor.raw_data)
    return moved
