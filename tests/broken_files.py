"""Exported files that were broken on purpose: each change is one that a careless exporter, or a tool, could make."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["BREAKS", "broken"]

make = helper.make_node


def _float(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def broken(model: ModelProto, how: str) -> ModelProto:
    """A copy of the exported `model` with the change `how` (a key of `BREAKS`)."""
    changed = ModelProto()
    changed.CopyFrom(model)
    BREAKS[how](changed)
    onnx.checker.check_model(changed)
    return changed


def _behind(model: ModelProto, output: str, nodes: Callable[[str], list[NodeProto]], *constants: np.ndarray) -> None:
    """Put `nodes` (from the name of the right value to `output`) behind an output; `constants` are k0, k1, ..."""
    right = f"{output}_right"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == output:
                    names[position] = right
    for position, value in enumerate(constants):
        model.graph.initializer.append(numpy_helper.from_array(value, f"k{position}"))
    model.graph.node.extend(nodes(right))


def _sizes(model: ModelProto, output: str) -> list[int]:
    info = next(o for o in model.graph.output if o.name == output)
    return [d.dim_value for d in info.type.tensor_type.shape.dim]


def _chosen(model: ModelProto) -> NodeProto:
    """The node Where(asks for the top class, top class, class that is asked for)."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers["cam_class"]
    while node.op_type == "Identity":
        node = makers[node.input[0]]
    assert node.op_type == "Where"
    return node


def frozen(model: ModelProto) -> None:
    """The gradient is a constant, as after tracing with values where a graph was meant."""
    _, *sizes = _sizes(model, "cam_gradients")
    constant = np.random.RandomState(0).randn(1, *sizes).astype(np.float32)
    nodes = [
        make("Mul", ["cam_gradients_right", "k0"], ["nothing"]),
        make("Add", ["nothing", "k1"], ["cam_gradients"]),
    ]
    _behind(model, "cam_gradients", lambda _: nodes, _float(0), constant)


def sign_flipped(model: ModelProto) -> None:
    _behind(model, "cam_gradients", lambda right: [make("Neg", [right], ["cam_gradients"])])


def scaled(model: ModelProto) -> None:
    _behind(model, "cam_gradients", lambda right: [make("Mul", [right, "k0"], ["cam_gradients"])], _float(1.01))


def channels_swapped(model: ModelProto) -> None:
    order = np.arange(_sizes(model, "cam_gradients")[1])
    order[:2] = 1, 0
    _behind(model, "cam_gradients", lambda right: [make("Gather", [right, "k0"], ["cam_gradients"], axis=1)], order)


def transposed(model: ModelProto) -> None:
    """Rows and columns of the gradient are taken for each other (grids of equal sides)."""
    _behind(model, "cam_gradients", lambda right: [make("Transpose", [right], ["cam_gradients"], perm=[0, 1, 3, 2])])


def another_class(model: ModelProto) -> None:
    """The gradient is that of the class behind the one that `cam_class` names."""
    classes = _sizes(model, model.graph.output[0].name)[1]
    chosen = _chosen(model)
    name, readers = chosen.output[0], list(model.graph.node)
    where = readers.index(chosen) + 1
    for node in readers:
        if "cam_class" not in node.output:
            for position, read in enumerate(node.input):
                if read == name:
                    node.input[position] = "next_class"
    rest = list(model.graph.node)[where:]
    del model.graph.node[where:]
    model.graph.node.extend([make("Add", [name, "k0"], ["one_more"]), make("Mod", ["one_more", "k1"], ["next_class"])])
    model.graph.node.extend(rest)
    for position, value in enumerate((1, classes)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), f"k{position}"))


def wrong_class_named(model: ModelProto) -> None:
    """The gradient is right, but `cam_class` says 0."""
    _behind(model, "cam_class", lambda right: [make("Mul", [right, "k0"], ["cam_class"])], np.array(0))


def target_ignored(model: ModelProto) -> None:
    """The top class is explained whatever was asked for, and `cam_class` says so."""
    chosen = _chosen(model)
    chosen.CopyFrom(make("Identity", [chosen.input[1]], [chosen.output[0]]))


def batch_frozen(model: ModelProto) -> None:
    """Every image of a batch gets the gradient of the first."""
    nodes = [
        make("Mul", ["cam_gradients_right", "k0"], ["nothing"]),
        make("Gather", ["cam_gradients_right", "k1"], ["first"], axis=0),
        make("Add", ["nothing", "first"], ["cam_gradients"]),
    ]
    _behind(model, "cam_gradients", lambda _: nodes, _float(0), np.array([0]))


def activations_doubled(model: ModelProto) -> None:
    """`cam_activations` is not what the scores are computed from."""
    nodes = [make("Mul", ["cam_activations_right", "k0"], ["cam_activations"])]
    _behind(model, "cam_activations", lambda _: nodes, _float(2))


def score_perturbed(model: ModelProto) -> None:
    """The plain output is off by half a per mille."""
    name = model.graph.output[0].name
    _behind(model, name, lambda right: [make("Mul", [right, "k0"], [name])], _float(1.0005))


def weight_twice(model: ModelProto) -> None:
    """The largest weight is stored once more, for the gradient alone."""
    largest = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    copy = numpy_helper.to_array(largest)
    nodes = [
        make("ReduceMax", ["copy"], ["largest"], keepdims=0),
        make("Mul", ["largest", "k0"], ["nothing"]),
        make("Add", ["cam_gradients_right", "nothing"], ["cam_gradients"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(copy.T), "copy"))
    _behind(model, "cam_gradients", lambda _: nodes, _float(0))


def not_a_number(model: ModelProto) -> None:
    """One cell of the gradient is NaN."""
    _, *sizes = _sizes(model, "cam_gradients")
    spoiled = np.zeros((1, *sizes), np.float32)
    spoiled.flat[-1] = np.nan
    _behind(model, "cam_gradients", lambda right: [make("Add", [right, "k0"], ["cam_gradients"])], spoiled)


def scatter_with_reduction(model: ModelProto) -> None:
    """Right, but TensorRT refuses it."""
    nodes = [
        make("Shape", ["cam_gradients_right"], ["all_sizes"]),
        make(
            "ConstantOfShape", ["all_sizes"], ["no_index"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0])
        ),
        make("Mul", ["cam_gradients_right", "k0"], ["no_update"]),
        make("ScatterElements", ["cam_gradients_right", "no_index", "no_update"], ["cam_gradients"], reduction="add"),
    ]
    _behind(model, "cam_gradients", lambda _: nodes, _float(0))


#: Name -> what changes a model in place.
BREAKS: dict[str, Callable[[ModelProto], None]] = {
    function.__name__: function
    for function in (
        frozen,
        sign_flipped,
        scaled,
        channels_swapped,
        transposed,
        another_class,
        wrong_class_named,
        target_ignored,
        batch_frozen,
        activations_doubled,
        score_perturbed,
        weight_twice,
        not_a_number,
        scatter_with_reduction,
    )
}
