"""The proof passes a right file and catches every way to be wrong that we could think of."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from cfcam.export.errors import ProofError
from cfcam.export.proof.results import image_errors, relative_error
from cfcam.export.proof.session import Session
from cfcam.export.torch_export import joint_graph
from cfcam.export.traced.candidates import find_score, resolve_value
from cfcam.export.traced.capture import capture
from cfcam.export.traced.convert import joint_to_onnx, plain_to_onnx
from cfcam.export.traced.eager import in_float64, run_eager, value_of
from cfcam.export.traced.prove import Subject, proof_images, prove
from onnx import helper, numpy_helper
from small_nets import ConvNet, seeded

LAYER = "act:1"  # a convolution and a ReLU lie behind it: its gradient depends on the image


@pytest.fixture(scope="module")
def subject() -> Subject:
    net = seeded(ConvNet())
    captured = capture(net, torch.zeros(1, 3, 40, 40))
    score = find_score(captured)
    value = resolve_value(captured, score, LAYER)
    wide, (node, logits) = in_float64(captured.graph, value.node, score.node)
    joint = joint_graph(captured.graph, {value.node: value.layout}, score.node)
    plain = plain_to_onnx(captured)
    names = [output.name for output in plain.graph.output]
    added = ["cam_activations", "cam_gradients", "cam_class"]
    model = joint_to_onnx(joint, [plain.graph.input[0].name, "cam_target"], [*names, *added])
    joint64 = joint_graph(wide, {node: value.layout}, logits)
    return Subject(net, captured, (value,), score, lambda: joint64, model, plain)


def contents(model: onnx.ModelProto | str) -> onnx.ModelProto:
    assert isinstance(model, onnx.ModelProto)
    return model


def renamed(model: onnx.ModelProto, output: str) -> str:
    """Free the name of an output, so that something else can be put in its place."""
    inner = f"true_{output}"
    for node in model.graph.node:
        node.output[:] = [inner if name == output else name for name in node.output]
        node.input[:] = [inner if name == output else name for name in node.input]
    return inner


def with_nodes(subject: Subject, *nodes: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None) -> Subject:
    model = copy.deepcopy(contents(subject.model))
    for name in {name for node in nodes for name in node.output}:
        if name in {value.name for value in model.graph.output}:
            renamed(model, name)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in (constants or {}).items())
    return replace(subject, model=model)


def failures(subject: Subject) -> set[str]:
    return {check.name for check in prove(subject).failures}


def test_a_right_file_passes_with_room_to_spare(subject: Subject) -> None:
    proof = prove(subject)
    assert proof
    assert len(proof.checks) >= 12
    figures = {check.name: check.value for check in proof.checks}
    assert figures["gradient in float64 against autograd"] < 1e-12
    assert figures["gradient in float64 against finite differences"] < 1e-5
    assert figures["gradient moves with the image, against eager"] == pytest.approx(1, abs=0.01)


def test_frozen_gradients_are_caught(subject: Subject) -> None:
    """What exporters do silently: the gradient of the example becomes a constant."""
    session = Session(subject.model)
    image = proof_images(subject.captured)[:1].numpy()
    frozen = session.run({session.inputs[0]: image, "cam_target": np.array([0])})["cam_gradients"]
    nodes = [
        helper.make_node("Shape", ["true_cam_gradients"], ["frozen_shape"]),
        helper.make_node("Expand", ["frozen"], ["cam_gradients"]),
    ]
    nodes[1].input.append("frozen_shape")
    found = failures(with_nodes(subject, *nodes, constants={"frozen": np.asarray(frozen)}))
    assert "gradient moves with the image, against eager" in found
    assert "gradient moves with the target, against eager" in found


def test_swapped_channels_are_caught(subject: Subject) -> None:
    order = np.arange(12)
    order[[2, 5]] = order[[5, 2]]
    node = helper.make_node("Gather", ["true_cam_gradients", "order"], ["cam_gradients"], axis=1)
    found = failures(with_nodes(subject, node, constants={"order": order}))
    assert "gradient in float32, share of the allowed error (median image)" in found


def test_activations_of_another_place_are_caught(subject: Subject) -> None:
    node = helper.make_node("Neg", ["true_cam_activations"], ["cam_activations"])
    assert "activations in float32, share of the allowed error" in failures(with_nodes(subject, node))


def test_changed_plain_outputs_are_caught(subject: Subject) -> None:
    name = contents(subject.plain).graph.output[0].name
    node = helper.make_node("Mul", [f"true_{name}", "factor"], [name])
    found = failures(with_nodes(subject, node, constants={"factor": np.float32(1.0001) * np.ones(1, np.float32)}))
    assert f"output '{name}' against the plain export" in found


def test_a_target_that_is_ignored_is_caught(subject: Subject) -> None:
    """Everything reads the top class, whatever was asked for."""
    model = copy.deepcopy(contents(subject.model))
    for node in model.graph.node:
        node.input[:] = ["always_top" if name == "cam_target" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Sub", ["cam_target", "cam_target"], ["zero"]))
    model.graph.node.insert(1, helper.make_node("Sub", ["zero", "one"], ["always_top"]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.int64), "one"))
    found = failures(replace(subject, model=model))
    assert "another target is taken" in found


def test_images_that_mix_in_a_batch_are_caught(subject: Subject) -> None:
    """A batch that was taken for another dimension: every image gets the batch's mean gradient."""
    mean = helper.make_node("ReduceMean", ["true_cam_gradients", "first_axis"], ["mean_gradient"], keepdims=1)
    shape = helper.make_node("Shape", ["true_cam_gradients"], ["gradient_shape"])
    spread = helper.make_node("Expand", ["mean_gradient", "gradient_shape"], ["cam_gradients"])
    found = failures(with_nodes(subject, mean, shape, spread, constants={"first_axis": np.zeros(1, np.int64)}))
    assert "a batch against its singles, share of the allowed error" in found


def test_a_wrong_derivative_in_the_traced_program_is_caught(subject: Subject) -> None:
    wrong = copy.deepcopy(subject.joint64())
    (output,) = (node for node in wrong.graph.nodes if node.op == "output")
    with wrong.graph.inserting_before(output):
        scaled = wrong.graph.call_function(torch.ops.aten.mul.Scalar, (output.args[0][2], 1.000001))
    output.args = ((*output.args[0][:2], scaled, output.args[0][3]),)
    wrong.recompile()
    assert "gradient in float64 against autograd" in failures(replace(subject, joint64=lambda: wrong))


def test_another_module_than_the_captured_one_cannot_be_compared(subject: Subject) -> None:
    with pytest.raises(ProofError, match="the trace is not this module"):
        prove(replace(subject, module=seeded(ConvNet(), seed=9)))


def test_the_oracle_finds_values_that_no_module_returns() -> None:
    class Inline(ConvNet):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            features = torch.relu(self.conv1(image)) * 2 - 0.5
            return self.fc(torch.cat([features, features**2], 1).mean((2, 3)))

    net = seeded(Inline())
    captured = capture(net, torch.zeros(1, 3, 40, 40))
    score = find_score(captured)
    value = next(v for v in [resolve_value(captured, score, None)] if "cat" in v.name)
    image = torch.randn(2, 3, 40, 40)
    layer, scores = value_of(captured.graph, image, value.node, score.node)
    eager = run_eager(net, image, layer, scores)
    gradient = eager.gradient(torch.tensor([1, 2]))
    expected = net.fc.weight[[1, 2]] / (20 * 20)
    torch.testing.assert_close(gradient[:, :, 0, 0], expected.detach())


def test_proof_images_fit_no_other_dimension(subject: Subject) -> None:
    images = proof_images(subject.captured)
    sizes = {s for n in subject.captured.graph.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)
             for s in n.meta["val"].shape if isinstance(s, int)}  # fmt: skip
    assert len(images) not in sizes
    assert images.shape[1:] == (3, 40, 40)
    assert torch.equal(images, proof_images(subject.captured))


def test_errors_by_hand() -> None:
    assert relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == 0.25
    assert np.isnan(relative_error(np.ones(2), np.zeros(2)))
    reference = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    value = np.array([[3.0, 4.5], [0.0, 0.0], [0.0, 1.0]])
    assert image_errors(value, reference).tolist() == [0.1, 0.0, np.inf]
