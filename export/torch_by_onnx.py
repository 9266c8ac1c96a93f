"""The other route for a PyTorch model: its plain ONNX export, differentiated as a graph by `export_onnx`.

What only PyTorch knows is carried over: which values the target layers are, how they hold their grids, and
that the plain export computes what the module computes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, helper
from torch import nn

from .axes.layout import raster
from .errors import ExportError, LayerError, ProofError
from .graph import Graph
from .metadata import tool_versions, write_model
from .onnx_export import export_onnx
from .proof.results import Check, image_errors, relative_error
from .proof.session import Session
from .report import ExportReport
from .reverse import LayerView
from .reverse.opening import open_model
from .traced.candidates import Value
from .traced.capture import Captured
from .traced.eager import value_of
from .traced.prove import proof_images

__all__ = ["ByOnnx", "export_by_onnx"]


@dataclass
class ByOnnx:
    """What is exported: the module, its traced and its plain ONNX form, and the target layers.

    values: the layers in the trace; None where the name among `layers` is that of a value of the ONNX form.
    """

    module: nn.Module
    captured: Captured
    plain: ModelProto
    values: Sequence[Value | None]
    layers: Sequence[str | None]


def export_by_onnx(subject: ByOnnx, output: Path, images: torch.Tensor | None, **options: Any) -> ExportReport:
    """Differentiate the plain export. options: as for `export_onnx`. Raises what it raises."""
    if images is None:
        images = proof_images(subject.captured)
    agreement = _against_eager(subject, images)
    failed = "; ".join(f"{c.name}: {c.value:.3g}, limit {c.limit:.3g}" for c in agreement if not c.ok)
    if failed:
        raise ProofError(f"{output}: not written, PyTorch's own export is not the model ({failed})")
    found = [
        (asked, None, None) if value is None else (_name_in_export(subject, value, images), _view(value), value.name)
        for asked, value in zip(subject.layers, subject.values, strict=True)
    ]
    layers, views, names = zip(*found, strict=True)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        write_model(subject.plain, plain)
        report = export_onnx(
            plain, output, layer=layers, view=views, layer_name=names, images=images.numpy(),
            tools=tool_versions("torch", "onnx", "onnxscript", "onnxruntime"), **options,
        )  # fmt: skip
    report.proof.checks[:0] = agreement
    return replace(report, path=output)


def _against_eager(subject: ByOnnx, images: torch.Tensor) -> list[Check]:
    outputs = value_of(subject.captured.graph, images, *subject.captured.outputs)
    names = [entry.name for entry in subject.plain.graph.output]
    session = Session(subject.plain)
    found = session.run({session.inputs[0]: images.numpy()})
    return [
        Check(f"output '{name}' against PyTorch", relative_error(found[name], output.numpy()), 1e-4)
        for name, output in zip(names, outputs, strict=True)
    ]


def _view(value: Value) -> LayerView:
    channels, height, width = value.shape
    layout = value.layout
    if layout.kind != "NTC":
        return LayerView(layout=layout.kind)
    tokens = int(value.node.meta["val"].shape[1])
    if layout != raster(height, width, tokens):
        raise ExportError(
            f"layer '{value.name}' holds its {channels} channels as tokens that are not in reading order, which the "
            "ONNX route cannot tell: use the route 'traced'"
        )
    return LayerView(layout="NTC", grid=(height, width), prefix_tokens=layout.prefix)


def _name_in_export(subject: ByOnnx, value: Value, images: torch.Tensor) -> str:
    """What the traced value is called in the plain export.

    The converter keeps most names; where it merged the operator with the next one (a batch norm into
    its convolution), the value is known by what it holds.
    """
    graph, _ = open_model(subject.plain)
    if value.node.name in graph.producers:
        return value.node.name
    (held,) = value_of(subject.captured.graph, images, value.node)
    wanted = held.numpy()
    for name, found in _values_of_shape(graph, images, wanted.shape[1:]):
        if found.shape == wanted.shape and image_errors(found, wanted).max() < 1e-4:
            return name
    raise LayerError(
        f"PyTorch's ONNX export has no value that equals layer '{value.name}': it was merged with others; choose a "
        "layer beside it, or use the route 'traced'"
    )


def _values_of_shape(
    graph: Graph, images: torch.Tensor, shape: tuple[int, ...]
) -> list[tuple[str, NDArray[np.generic]]]:
    """All values of the graph with these sizes behind the batch, for `images`."""
    names = [n for n in graph.producers if graph.is_float(n) and tuple((graph.shape(n) or ())[1:]) == tuple(shape)]
    probe = graph.copy()
    probe.outputs = [
        helper.make_tensor_value_info(n, graph.elem_type(n) or 1, list(graph.shape(n) or ())) for n in names
    ]
    session = Session(probe.to_model())
    found = session.run({session.inputs[0]: images.numpy()})
    return [(name, found[name]) for name in names]
