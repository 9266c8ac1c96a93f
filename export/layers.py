"""`list_layers`: the values of a model that can be explained, by either route, in one form.

Values that only feed an activation or a normalisation are left out: their better half is
listed. They can still be named as target layers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..runtime.contract.spec import METADATA_KEY, CamSpec
from .errors import LayerError

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from .traced.candidates import Value
    from .traced.capture import Captured

__all__ = ["Layer", "LayerList", "list_layers"]


@dataclass(frozen=True)
class Layer:
    """A value that a map can be made of.

    name: what ``--layer`` takes; aliases: other names that it takes. operator: what makes the
    value. shape: as the model holds it; a free size is a symbol such as ``N``, or None. layout: of
    that shape. grid: (H, W), None for a size that is not fixed. prefix_tokens: class and register
    tokens in front of the grid's. depth: number of the graph's operators that come before.
    default: this is what is taken when no layer is named; why: the reason. refused: why the
    gradient cannot be taken here; empty where it can.
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

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        default = self.default
        return {**asdict(self), "default": None if default is None else default.name}


def list_layers(
    model: str | os.PathLike[str] | onnx.ModelProto | nn.Module,
    example: int | Sequence[int] = 224,
    score: str | int | None = None,
) -> LayerList:
    """The layers of a classifier that can be explained, the default marked.

    model: an ``.onnx`` file (PyTorch is not needed), an ONNX model in memory, or a PyTorch
    module. example: height and width of a PyTorch model's input. score: the output that is to be explained: its
    name in an ONNX model, its position among a PyTorch model's; None takes the first of shape (N, classes).
    Raises `ModelFileError`, `ExportError`.

    >>> list_layers("resnet18.onnx").default.name                       # doctest: +SKIP
    '/layer4/layer4.1/relu_1/Relu_output_0'
    """
    if isinstance(model, str | os.PathLike):
        from .graph import load_model

        return _of_onnx(load_model(model), score)
    if hasattr(model, "graph") and hasattr(model, "opset_import"):
        return _of_onnx(model, score)
    return _of_torch(model, example, score)


def _of_onnx(model: Any, score: str | int | None) -> LayerList:
    from .reverse.candidates import blocker, candidates
    from .reverse.opening import open_model
    from .reverse.path import find_path, refusal
    from .reverse.rewriting import find_rewrite
    from .reverse.score import find_score

    spec = _spec_of(model)
    graph, _ = open_model(model)
    if score is None and spec is not None:
        score = spec.output.name
    found = find_score(graph, None if score is None else str(score))
    known = candidates(graph, found)
    on_way = find_path(graph, graph.input_names, [found.value]).nodes
    may_refuse = any(find_rewrite(node) is None and refusal(node) is not None for node in on_way)
    layers = []
    for candidate in known:
        stop = blocker(graph, candidate.name, found.value) if may_refuse else None
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
                refused="" if stop is None else refusal(stop) or "",
            )
        )
    exported = None
    if spec is not None:
        exported = ", ".join(layer.name for layer in spec.layers)
        # The exporter gives the layer's value the name of the output.
        mine = {name: layer.name for layer in spec.layers for name in (layer.value, layer.activations)}
        layers = [replace(layer, name=mine.get(layer.name, layer.name)) for layer in layers]
    return LayerList("onnx", found.value, found.output, found.classes, tuple(layers), exported)


def _spec_of(model: Any) -> CamSpec | None:
    text = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    return None if text is None else CamSpec.from_json(text)


# What changes values one by one, or scales channels: the value behind is the better half.
_SAME_PLACE = {
    "batch_norm", "celu", "clamp", "clone", "dropout", "elu", "gelu",
    "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu",
    "softplus", "tanh",
}  # fmt: skip


def _of_torch(module: Any, example: int | Sequence[int], score: str | int | None) -> LayerList:
    import torch

    from .traced.candidates import candidates, default_value, find_score
    from .traced.capture import capture

    height, width = (example, example) if isinstance(example, int) else tuple(example)
    captured = capture(module, torch.empty(1, 3, height, width))
    found = find_score(captured, None if score is None else int(score))
    known = candidates(captured, found)
    try:
        default = default_value(captured, found).node
    except LayerError:  # no pooling and no flatten: the layer has to be named
        default = None
    nodes = [node for node in captured.graph.graph.nodes if node.op == "call_function"]
    depth = {node: position for position, node in enumerate(nodes)}
    held = {value.node for value in known}
    layers = tuple(
        Layer(
            name=value.name,
            aliases=value.names[1:],
            operator=_operator(value.node),
            shape=("N", *(int(size) for size in value.node.meta["val"].shape[1:])),
            layout=value.layout.kind,
            channels=value.shape[0],
            grid=value.shape[1:],
            prefix_tokens=value.layout.prefix,
            depth=depth[value.node],
            default=value.node is default,
            why=_why(captured, value, held) if value.node is default else "",
        )
        for value in known
        if value.node is default or not _only_feeds_activation(value.node)
    )
    return LayerList("torch", found.node.name, found.output.name, found.classes, layers)


def _operator(node: Any) -> str:
    """The ATen operator that makes a value, without its overload; of a tuple's item, that of the tuple."""
    if "getitem" in str(node.target):
        node = node.args[0]
    name = str(node.target).removeprefix("aten.").split(".")[0]
    return "batch_norm" if "batch_norm" in name else name


def _only_feeds_activation(node: Any) -> bool:
    users = list(node.users)
    return len(users) == 1 and users[0].op == "call_function" and _operator(users[0]) in _SAME_PLACE


def _why(captured: Captured, value: Value, held: set[Any]) -> str:
    """Why the default is the default: the traced route's rule in words."""
    if value.pooled:
        return "enters the last global pooling"
    for user in value.node.users:
        if user not in held and user.op == "call_function":
            return f"the last value with a grid; enters {_operator(user)} '{user.name}'"
    if value.layout.kind == "NTC":
        return "the token stream that enters the last attention block"
    return "enters the last pooling or flatten"
