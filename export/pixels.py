"""Preprocessing as part of the graph: the new file takes pixels 0 to 255, and does scale, mean and std itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from ..runtime.contract.spec import FoldedSpec, InputSpec
from .errors import ExportError
from .graph import Graph
from .sources.assumed import PIXEL_RANGE
from .sources.onnx_input import ImageInput

__all__ = ["FOLDED_INPUTS", "FoldedInput", "fold_input", "folded_spec", "unfolded", "unfolded_spec"]

#: What a folded input may be: float32 (N, C, H, W), uint8 (N, C, H, W) or uint8 (N, H, W, C).
FoldedInput = Literal["float", "uint8", "uint8-nhwc"]
FOLDED_INPUTS: tuple[FoldedInput, ...] = get_args(FoldedInput)

_KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
#: Axes of (N, C, H, W) as (N, H, W, C), and the other way round.
_TURNED = {"NHWC": (0, 2, 3, 1), "NCHW": (0, 3, 1, 2)}


def folded_spec(spec: InputSpec, asked: FoldedInput) -> InputSpec:
    """What the new file takes, where the model itself takes `spec`.

    Raises `ExportError` where there is nothing to fold.
    """
    if spec.dtype in ("uint8", "int8"):
        raise ExportError(
            f"--fold-preprocessing: input '{spec.name}' is {spec.dtype}, so the model takes pixels and normalises them "
            "itself: leave --fold-preprocessing out"
        )
    plain = spec.scale == 1 and not any(spec.mean) and all(std == 1 for std in spec.std)
    if plain and asked == "float" and (spec.dtype, spec.layout) == ("float32", "NCHW"):
        raise ExportError(
            f"--fold-preprocessing: input '{spec.name}' takes pixels as they are (scale 1, mean 0, std 1): leave "
            "--fold-preprocessing out, or give uint8 for bytes"
        )
    count = spec.channels
    return replace(
        spec,
        dtype="float32" if asked == "float" else "uint8",
        layout="NHWC" if asked == "uint8-nhwc" else "NCHW",
        scale=1.0,
        mean=(0.0,) * count,
        std=(1.0,) * count,
        folded=FoldedSpec(scale=spec.scale, mean=spec.mean, std=spec.std),
    )


def unfolded_spec(folded: InputSpec, image: ImageInput) -> InputSpec:
    """What the plain model takes, whose input is `image`, where a file that was made of it takes `folded`."""
    assert folded.folded is not None
    formula = folded.folded
    return replace(
        folded,
        layout=image.layout,
        dtype=image.dtype,
        scale=formula.scale,
        mean=formula.mean,
        std=formula.std,
        folded=None,
    )


def unfolded(pixels: NDArray[Any], folded: InputSpec, spec: InputSpec) -> NDArray[Any]:
    """What the model itself takes of pixels (N, ...) as the new file takes them: computed in float64."""
    values = pixels.astype(np.float64)
    if folded.layout == "NHWC":
        values = values.transpose(_TURNED["NCHW"])
    mean, std = (np.reshape(numbers, (-1, 1, 1)) for numbers in (spec.mean, spec.std))
    values = (values * spec.scale - mean) / std
    if spec.layout == "NHWC":
        values = values.transpose(_TURNED["NHWC"])
    return np.ascontiguousarray(values, dtype=spec.dtype)


def fold_input(graph: Graph, spec: InputSpec, folded: InputSpec) -> None:
    """Make the graph's image input, which is as `spec` says, one as `folded` says; it keeps its name.

    The mean is taken off in the units of pixels and before anything is multiplied: what it is off by rounding is then
    no more than float32's last bit of a pixel's value, and the mean colour becomes 0.
    """
    place = next(index for index, entry in enumerate(graph.inputs) if entry.name == spec.name)
    batch = (graph.shape(spec.name) or (None,))[0]
    inner = graph.fresh(f"{spec.name}_normalised")
    graph.replace_uses(spec.name, inner)
    shape = (batch, *folded.shape(1)[1:])
    graph.inputs[place] = helper.make_tensor_value_info(spec.name, _KINDS[folded.dtype], list(shape))
    graph.types[inner] = graph.types.pop(spec.name)
    graph.types[spec.name] = (_KINDS[folded.dtype], shape)
    nodes: list[NodeProto] = []
    value = spec.name

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        made = graph.fresh(f"{spec.name}_{operator.lower()}")
        nodes.append(helper.make_node(operator, [value, *inputs], [made], name=made, **attributes))
        return made

    def constant(numbers: Any) -> str:
        name = graph.fresh(f"{spec.name}_constant")
        planes = np.asarray(numbers, np.float64).astype(np.float32)
        graph.add_constant(name, planes if spec.layout == "NHWC" else planes.reshape(-1, 1, 1))
        return name

    if folded.dtype != "float32":
        value = add("Cast", to=TensorProto.FLOAT)
    if folded.layout != spec.layout:
        value = add("Transpose", perm=list(_TURNED[spec.layout]))
    if any(folded.blank):
        value = add("Sub", constant(folded.blank))
    factors = spec.scale / np.asarray(spec.std, np.float64)
    if (factors != 1).any():
        value = add("Mul", constant(factors))
    if spec.dtype != "float32":
        value = add("Cast", to=_KINDS[spec.dtype])
    if not nodes:
        value = add("Identity")
    nodes[-1].output[0] = inner
    graph.nodes = [*nodes, *graph.nodes]
    for entry in graph.model.metadata_props:  # of the plain model's input
        if entry.key == PIXEL_RANGE:
            entry.value = "NominalRange_0_255"
    graph.reindex()
