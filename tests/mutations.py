"""Exported files with faults that a proof must find: what exporters do wrong, one at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cfcam.export.proof.exported_file import ExportedFile
from onnx import ModelProto, helper, numpy_helper

__all__ = ["MUTATIONS", "Mutation", "constant", "rewired"]

Mutation = Callable[[ModelProto, ExportedFile], None]


def rewired(model: ModelProto, name: str, *nodes: tuple[str, list[str], dict]) -> None:
    """Compute the output `name` from itself, now called ``true``, by a chain of nodes; ``it`` is the value so far."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["true" if n == name else n for n in names]
    value = "true"
    for position, (operator, inputs, attributes) in enumerate(nodes):
        out = name if position == len(nodes) - 1 else f"step{position}"
        inputs = [value if n == "it" else n for n in inputs]
        model.graph.node.append(helper.make_node(operator, inputs, [out], name=f"mutation{position}", **attributes))
        value = out


def constant(model: ModelProto, name: str, values: object) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def frozen_for_all_images(model: ModelProto, file: ExportedFile) -> None:
    constant(model, "zero", np.float32(0))
    constant(model, "frozen", file.top.gradients[:1])
    rewired(model, "cam_gradients", ("Mul", ["it", "zero"], {}), ("Add", ["it", "frozen"], {}))


def wrong_sign(model: ModelProto, file: ExportedFile) -> None:
    rewired(model, "cam_gradients", ("Neg", ["it"], {}))


def scaled_by_a_thousandth(model: ModelProto, file: ExportedFile) -> None:
    constant(model, "more", np.float32(1.001))
    rewired(model, "cam_gradients", ("Mul", ["it", "more"], {}))


def two_channels_swapped(model: ModelProto, file: ExportedFile) -> None:
    order = np.arange(file.spec.layer.channels)
    order[[3, 5]] = order[[5, 3]]
    constant(model, "order", order)
    rewired(model, "cam_gradients", ("Gather", ["it", "order"], {"axis": 1}))


def activations_swapped(model: ModelProto, file: ExportedFile) -> None:
    """The layer itself stays; only what is given out has two channels in each other's place."""
    order = np.arange(file.spec.layer.channels)
    order[[3, 5]] = order[[5, 3]]
    constant(model, "order", order)
    rewired(model, "cam_activations", ("Gather", ["it", "order"], {"axis": 1}))


def transposed_grid(model: ModelProto, file: ExportedFile) -> None:
    rewired(model, "cam_gradients", ("Transpose", ["it"], {"perm": [0, 1, 3, 2]}))


def images_in_another_order(model: ModelProto, file: ExportedFile) -> None:
    for name, value in (("start", [-1]), ("end", [-1000]), ("axis", [0]), ("step", [-1])):
        constant(model, name, value)
    rewired(model, "cam_gradients", ("Slice", ["it", "start", "end", "axis", "step"], {}))


def always_the_top_class(model: ModelProto, file: ExportedFile) -> None:
    top = next(node.output[0] for node in model.graph.node if node.op_type == "ArgMax")
    chosen = next(node.output[0] for node in model.graph.node if node.op_type == "Where" and top in node.input)
    for node in model.graph.node:
        if "cam_class" not in node.output:
            node.input[:] = [top if name == chosen else name for name in node.input]


def another_class_is_reported(model: ModelProto, file: ExportedFile) -> None:
    constant(model, "one", np.int64(1))
    rewired(model, "cam_class", ("Add", ["it", "one"], {}))


def mean_over_the_batch(model: ModelProto, file: ExportedFile) -> None:
    """A batch that was taken for another axis."""
    constant(model, "zero", np.float32(0))
    constant(model, "first_axis", [0])
    rewired(
        model,
        "cam_gradients",
        ("ReduceMean", ["it", "first_axis"], {"keepdims": 1}),
        ("Mul", ["true", "zero"], {}),
        ("Add", ["step0", "step1"], {}),
    )


def scaled_by_a_ten_thousandth(model: ModelProto, file: ExportedFile) -> None:
    constant(model, "more", np.float32(1.0001))
    rewired(model, "cam_gradients", ("Mul", ["it", "more"], {}))


def of_the_next_class(model: ModelProto, file: ExportedFile) -> None:
    """The class that is reported is right; the gradient is another's."""
    chosen = next(node.output[0] for node in model.graph.node if "cam_class" in node.output)
    at = next(i for i, node in enumerate(model.graph.node) if chosen in node.output) + 1
    constant(model, "next", np.int64(1))
    constant(model, "classes", np.int64(file.spec.output.classes))
    for node in model.graph.node:
        node.input[:] = ["next_class" if name == chosen else name for name in node.input]
    model.graph.node.insert(at, helper.make_node("Add", [chosen, "next"], ["next_sum"], name="next_sum"))
    model.graph.node.insert(at + 1, helper.make_node("Mod", ["next_sum", "classes"], ["next_class"], name="next_mod"))


def outputs_scaled(model: ModelProto, file: ExportedFile) -> None:
    constant(model, "more", np.float32(1.0001))
    rewired(model, file.plain_names[0], ("Mul", ["it", "more"], {}))


#: How a file is spoilt -> a check that must fail then; {} is the name of its first output.
MUTATIONS: dict[Mutation, str] = {
    frozen_for_all_images: "gradient in float64 against differences",
    wrong_sign: "gradient in float64 against differences",
    scaled_by_a_ten_thousandth: "gradient in float64 against differences",
    scaled_by_a_thousandth: "gradient in float64 against differences",
    two_channels_swapped: "gradient in float64 against differences",
    activations_swapped: "gradient in float64 against differences",
    transposed_grid: "gradient in float64 against differences",
    mean_over_the_batch: "gradient in float64 against differences",
    of_the_next_class: "gradient in float64 against differences",
    images_in_another_order: "gradient in float64 against differences",
    always_the_top_class: "gradient in float64 against differences",
    another_class_is_reported: "explained class is the top class",
    outputs_scaled: "output '{}' against the plain model",
}
