"""`list_layers`: the values of a model that can be explained, in one form.

Values that only feed an activation or a normalisation are left out: their better half is
listed. They can still be named as target layers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from .graph import Graph
    from .reverse import Score

__all__ = ["Layer", "LayerList", "list_layers"]


@dataclass(frozen=True)
class Layer:
    """A value that a map can be made of.

    name: what ``--layer`` takes; aliases: other names that it takes. operator: what makes the
    value. shape: as the model holds it; a free size is a symbol such as ``N``, or None. layout: of
    that shape. grid: (H, W), None for a size that is not fixed. prefix_tokens: class and register
    tokens in front of the grid's. depth: number of the graph's operators that come before.
    default: this is what is taken when no layer is named; why: the reason. refused: why the
    gradient cannot be taken here; empty where it can. assumed: the layout could not be followed from the image, and is
    what the shape looks like. detail: this is the default's detail layer.
    """

    name: str
    aliases: tuple[str, ...]
    operator: str
    shape: tuple[int | str | None, ...]
    layout: Literal["NCHW", "NHWC", "NTC"]
    channels: int
    grid: tuple[int | None, int | None]
    prefix_tokens: int
    depth: int
    default: bool = False
    why: str = ""
    refused: str = ""
    detail: bool = False
    assumed: bool = False


@dataclass(frozen=True)
class LayerList:
    """The candidates of one model, in order of computation.

    kind: ``onnx`` or ``torch``. score: the class scores that the layers must reach; output: the model's output
    that shows them. exported: what the file explains already, when `cfcam export` made it, else None: the layer's
    name, or those of several with a comma between.
    """

    kind: Literal["onnx", "torch"]
    score: str
    output: str
    classes: int
    layers: tuple[Layer, ...]
    exported: str | None = None

    @property
    def default(self) -> Layer | None:
        """The layer that is taken when none is named; None when it must be named."""
        return next((layer for layer in self.layers if layer.default), None)

    @property
    def detail(self) -> Layer | None:
        """The default's detail layer, which sharpens its maps; None where it has none."""
        return next((layer for layer in self.layers if layer.detail), None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        default, detail = self.default, self.detail
        names = {
            "default": None if default is None else default.name,
            "detail": None if detail is None else detail.name,
        }
        return {**asdict(self), **names}


def list_layers(
    model: str | os.PathLike[str] | onnx.ModelProto | nn.Module,
    example: int | Sequence[int] = 224,
    score: str | int | None = None,
    *,
    channels: int | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> LayerList:
    """The layers of a classifier that can be explained, the default marked.

    model: an ``.onnx`` file (PyTorch is not needed), an ONNX model in memory, or a PyTorch
    module. example: height and width of a PyTorch model's input. score: the output that is to be explained: its
    name in an ONNX model, its position among a PyTorch model's; None takes the first of shape (N, classes).
    channels: of the image, where the model does not say. inputs: values of the inputs beside the image, as in
    `ExportOptions`.
    Raises `ModelFileError`, `ExportError`.

    >>> list_layers("resnet18.onnx").default.name                       # doctest: +SKIP
    '/layer4/layer4.1/relu_1/Relu_output_0'
    """
    if isinstance(model, str | os.PathLike):
        from .graph import load_model

        return _of_onnx(load_model(model), score, channels, inputs)
    if hasattr(model, "graph") and hasattr(model, "opset_import"):
        return _of_onnx(model, score, channels, inputs)
    from .sources.wrapped import in_float32, unwrapped
    from .traced.image import fixed_inputs

    module, _ = in_float32(unwrapped(cast("nn.Module", model)))
    with fixed_inputs(module, inputs or {}):
        return _of_torch(module, example, score, channels)


def _of_onnx(model: Any, score: str | int | None, channels: int | None, inputs: Mapping[str, Any] | None) -> LayerList:
    from .reverse.opening import open_model
    from .reverse.score import find_score, score_of
    from .sources.onnx_outputs import tensor_outputs
    from .unrunnable import runnable_part
    from .writing import spec_of

    spec = spec_of(model)
    if inputs:
        from .sources.fixed_inputs import fix_inputs
        from .sources.onnx_input import image_input

        copy = type(model)()
        copy.CopyFrom(model)
        fix_inputs(copy, inputs, image_input(copy, None, channels, inputs))
        model = copy
    graph, _ = open_model(runnable_part(tensor_outputs(model)[0], None if score is None else str(score))[0])
    if score is None and spec is not None:
        found = score_of(graph, spec.output)
    else:
        found = find_score(graph, None if score is None else str(score))
    layers = _listed(graph, found)
    exported = None
    if spec is not None:
        exported = ", ".join(layer.name for layer in spec.layers)
        # The exporter gives the layer's value the name of the output.
        mine = {name: layer.name for layer in spec.layers for name in (layer.value, layer.activations)}
        layers = [replace(layer, name=mine.get(layer.name, layer.name)) for layer in layers]
    return LayerList("onnx", found.value, found.output, found.classes, tuple(layers), exported)


def _listed(graph: Graph, score: Score, *, anywhere: bool = False) -> list[Layer]:
    from .reverse.candidates import candidates
    from .reverse.detail import find_detail
    from .reverse.usable import refusals

    known = candidates(graph, score, anywhere=anywhere)
    refused = refusals(graph, score, [candidate.name for candidate in known])
    default = next((candidate for candidate in known if candidate.default), None)
    detail = None if default is None else find_detail(graph, default, known)
    layers = []
    for candidate in known:
        layers.append(
            Layer(
                name=candidate.name,
                aliases=(candidate.node,) if candidate.node and candidate.node != candidate.name else (),
                operator=candidate.operator,
                shape=candidate.shape,
                layout=candidate.layout,
                channels=candidate.channels,
                grid=candidate.grid,
                prefix_tokens=candidate.prefix_tokens,
                depth=candidate.depth,
                default=candidate.default,
                why=candidate.why,
                assumed=candidate.assumed,
                refused=refused.get(candidate.name, ""),
                detail=detail is not None and candidate.name == detail.name,
            )
        )
    return layers


def _of_torch(module: Any, example: int | Sequence[int], score: str | int | None, channels: int | None) -> LayerList:
    """The layers of the module's plain export, by the names and operators that they have in PyTorch."""
    from .reverse.opening import open_model
    from .reverse.score import find_score
    from .traced.capture import capture
    from .traced.convert import plain_to_onnx
    from .traced.image import example_image
    from .traced.names import Names
    from .traced.outputs import check_scores, output_place

    captured = capture(module, example_image(module, example, channels))
    place = None if score is None else output_place(captured.output_names, score)
    check_scores(captured.outputs, place, captured.image.meta["val"].shape[0])
    plain = plain_to_onnx(captured)
    graph, _ = open_model(plain)
    found = find_score(graph, None if place is None else plain.graph.output[place].name)
    names = Names(captured, graph, found.value)
    layers = []
    for layer in _listed(graph, found, anywhere=True):
        shown, *aliases = names.all(layer.name)
        operator = names.operator(layer.name) or layer.operator
        shape = ("N", *layer.shape[1:])
        why = layer.why.partition(" (")[0]
        layers.append(replace(layer, name=shown, aliases=tuple(aliases), operator=operator, shape=shape, why=why))
    return LayerList("torch", found.value, found.output, found.classes, tuple(layers))
