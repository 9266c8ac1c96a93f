"""Explained files that went wrong in ways that a label does not show, for tests of the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cfcam.export.writing import set_spec
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.contract.spec import CamSpec
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["freeze_detail", "freeze_gradients", "other_class", "quantise", "with_spec"]


def with_spec(source: Path, copy: Path, /, **changes: Any) -> Path:
    """A copy whose `CamSpec` differs."""
    model = onnx.load(str(source))
    set_spec(model, dataclasses.replace(read_spec(source), **changes))
    onnx.save(model, str(copy))
    return copy


def freeze_gradients(source: Path, output: Path, gradients: Sequence[NDArray[np.float32] | None]) -> Path:
    """The gradients of one image, (1, C, h, w) of each layer (None: left alone), for every image and class."""
    model, spec = onnx.load(str(source)), read_spec(source)
    for number, (layer, values) in enumerate(zip(spec.layers, gradients, strict=True)):
        if values is None:
            continue
        _rename_made(model, layer.gradients, f"true_gradients_{number}")
        model.graph.initializer.append(numpy_helper.from_array(values, f"frozen_{number}"))
        model.graph.node.extend(
            [
                helper.make_node("Shape", [layer.activations], [f"frozen_shape_{number}"]),
                helper.make_node("Expand", [f"frozen_{number}", f"frozen_shape_{number}"], [layer.gradients]),
            ]
        )
    onnx.save(model, str(output))
    return output


def freeze_detail(source: Path, output: Path, values: NDArray[np.float32]) -> Path:
    """The detail of one image, (1, D, H, W), for every image."""
    model, spec = onnx.load(str(source)), read_spec(source)
    assert spec.layer.detail is not None
    name = spec.layer.detail.activations
    _rename_made(model, name, "true_detail")
    model.graph.initializer.append(numpy_helper.from_array(values, "frozen_detail"))
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["true_detail"], ["frozen_shape"]),
            helper.make_node("Expand", ["frozen_detail", "frozen_shape"], [name]),
        ]
    )
    onnx.save(model, str(output))
    return output


def other_class(source: Path, output: Path) -> Path:
    """The gradient is that of the next class, and the file says that it is the one asked for."""
    model, spec = onnx.load(str(source)), read_spec(source)
    readers = [node for node in model.graph.node if spec.chosen in node.input]
    assert readers
    for node in readers:
        node.input[list(node.input).index(spec.chosen)] = "next_class"
    at = next(i for i, node in enumerate(model.graph.node) if spec.chosen in node.output) + 1
    for name, value in (("one", 1), ("classes", spec.output.classes)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"next_{name}"))
    model.graph.node.insert(at, helper.make_node("Add", [spec.chosen, "next_one"], ["next_sum"]))
    model.graph.node.insert(at + 1, helper.make_node("Mod", ["next_sum", "next_classes"], ["next_class"]))
    onnx.save(model, str(output))
    return output


def quantise(source: Path, output: Path, images: Sequence[NDArray[np.float32]]) -> Path:
    """INT8 by ONNX Runtime, calibrated on `images` (C, H, W) in the model's layout."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    spec: CamSpec = read_spec(source)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = iter([{spec.input.name: one[None], spec.target: np.array([-1])} for one in images])

        def get_next(self):  # type: ignore[override] - None ends it
            return next(self._feeds, None)

    quantize_static(
        str(source),
        str(output),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(str(output))
    set_spec(model, dataclasses.replace(spec, precision="int8"))
    onnx.save(model, str(output))
    return output


def _rename_made(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for position, name in enumerate(node.output):
            if name == old:
                node.output[position] = new
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new
