"""Inputs beside the image, whose values are fixed and kept in the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper

from ..errors import ExportError
from ..graph.graph import Dim, type_of
from .onnx_input import ImageInput

__all__ = ["fix_inputs", "parse_input"]


def parse_input(text: str) -> tuple[str, Any]:
    """Name and value from ``NAME=FILE.npy``, ``NAME=0.5``, ``NAME=true`` or, a row of numbers, ``NAME=1,2,3``.

    Raises `ExportError`.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not name or not equals or not value:
        raise ExportError(f"--input: expected NAME=VALUE or NAME=FILE.npy, got '{text}'")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    try:
        numbers = [float(part) if _has_point(part) else int(part) for part in value.split(",")]
    except ValueError:
        return name, _read(name, value)
    return name, numbers[0] if len(numbers) == 1 else np.array(numbers)[None]


def _has_point(text: str) -> bool:
    return not text.strip().lstrip("+-").isdecimal()


def _read(name: str, path: str) -> NDArray[Any]:
    if not path.endswith(".npy") and not os.path.exists(path):
        raise ExportError(f"--input {name}: '{path}' is no number, no list of numbers such as 1,2,3, and no .npy file")
    try:
        return np.lib.format.open_memmap(path, mode="r")[...].copy()
    except FileNotFoundError:
        raise ExportError(f"--input {name}: {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ExportError(f"--input {name}: {path}: is not a .npy file of numbers ({error})") from None


def fix_inputs(model: ModelProto, inputs: Mapping[str, Any], image: ImageInput) -> list[str]:
    """Make constants of inputs of `model`, which is changed.

    inputs: values by name, for one image: what has a batch axis in the model may have it as 1, or not at all, and is
    repeated for every image. A number stands for all elements. Returns notes. Raises `ExportError`.
    """
    entries = {entry.name: entry for entry in model.graph.input}
    notes = []
    for name, given in inputs.items():
        entry = entries[name]
        value, repeated = _fitted(entry, given, image)
        model.graph.input.remove(entry)
        if repeated and image.batch is None:
            _repeat(model, name, value, image.name)
        else:
            value = np.repeat(value, image.batch or 1, axis=0) if repeated else value
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        notes.append(f"input '{name}' {tuple(value.shape)} is fixed, and kept in the file")
    return notes


def _fitted(entry: ValueInfoProto, given: Any, image: ImageInput) -> tuple[NDArray[Any], bool]:
    """The value in the input's type and shape, and whether its first axis, of size 1, stands for every image."""
    kind, shape = type_of(entry.type) or (0, None)
    shape = shape and tuple(None if isinstance(d, int) and d < 1 else d for d in shape)  # free sizes, too
    values = np.asarray(given)
    if shape is None or values.dtype.kind not in "biuf":
        what = "its shape is not stated" if shape is None else f"expected numbers, got {values.dtype}"
        raise ExportError(f"input '{entry.name}': {what}")
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    fitted = values.astype(dtype)
    if not np.array_equal(fitted.astype(np.float64), values.astype(np.float64)) and dtype.kind in "biu":
        raise ExportError(f"input '{entry.name}' is {dtype}, which {values.ravel()[0]:g} does not fit")
    repeated = bool(shape) and (not isinstance(shape[0], int) or shape[0] == image.batch)
    wanted: list[Dim] = [1, *shape[1:]] if repeated else list(shape)
    if fitted.ndim == 0 and all(isinstance(d, int) for d in wanted):
        return np.full([int(d or 0) for d in wanted], fitted), repeated
    if fitted.ndim == len(wanted) - 1 and wanted[0] == 1:
        fitted = fitted[None]
    fits = fitted.ndim == len(wanted) and all(
        not isinstance(want, int) or have == want for have, want in zip(fitted.shape, wanted, strict=True)
    )
    if not fits:
        listed = ", ".join(str("?" if d is None else d) for d in wanted)
        raise ExportError(
            f"input '{entry.name}': expected a value of shape ({listed}){' for one image' * repeated}, got "
            f"{tuple(values.shape)}"
        )
    return fitted, repeated


def _repeat(model: ModelProto, name: str, value: NDArray[Any], image: str) -> None:
    """Write `value` (1, ...) as a constant that is expanded to as many rows as `image` has."""
    own = {part: f"cfcam_fixed_{name}_{part}" for part in ("value", "shape", "first", "count", "rest", "whole")}
    constants = {"value": value, "first": np.array([0]), "rest": np.array(value.shape[1:], np.int64)}
    for part, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, own[part]))
    nodes = [
        helper.make_node("Shape", [image], [own["shape"]]),
        helper.make_node("Gather", [own["shape"], own["first"]], [own["count"]], axis=0),
        helper.make_node("Concat", [own["count"], own["rest"]], [own["whole"]], axis=0),
        helper.make_node("Expand", [own["value"], own["whole"]], [name]),
    ]
    following = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(following)
