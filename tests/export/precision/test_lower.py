"""A file in another precision: its gradient is that of the network that runs, by differences and by autograd."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import certified_nets
import numpy as np
import onnx
import onnx_classifiers
import pytest
import torch
import torch.nn.functional as F
from cfcam.calibration.repeated_weights import repeated_weights
from cfcam.export.errors import ExportError
from cfcam.export.fused.plan import plan_fused
from cfcam.export.graph import Graph, attribute
from cfcam.export.precision import Plan, lower
from cfcam.export.precision.plain_model import plain_model
from cfcam.export.proof.session import Session
from cfcam.runtime import Explainer
from cfcam.runtime.contract.modelfile import read_spec
from lowered_nets import HALF, IMAGES, INT8, SYMMETRIC, middle_of, write
from numpy.typing import NDArray
from onnx import numpy_helper


@pytest.mark.parametrize("layer", ["last", "middle"])
@pytest.mark.parametrize("plan", [Plan(), HALF, INT8, SYMMETRIC, replace(SYMMETRIC, rest="float16")], ids=str)
def test_lowered(plan: Plan, layer: str, tmp_path: Path) -> None:
    source = write("mobile", tmp_path / "net.cam.onnx", layer if layer == "last" else middle_of("mobile"))
    made = lower(source, tmp_path / "low.onnx", plan, [IMAGES[:5], IMAGES[5:]])
    assert made.proof, made.proof.failures
    before, after = read_spec(source), read_spec(made.path)
    assert after.layer.name == "the layer"
    assert (after.layer.pooled, after.layer.grid, after.input) == (layer == "last", before.layer.grid, before.input)
    mixed = plan.quantised and plan.rest == "float16"
    assert after.precision == ("int8+float16" if mixed else plan.precision)
    model = onnx.load(made.path)
    assert not repeated_weights(model, [model.graph.output[0].name])
    assert (made.calibration is not None) == plan.quantised
    with Explainer(source) as one, Explainer(made.path) as other:
        a, b = one.tensors(IMAGES), other.tensors(IMAGES, one.tensors(IMAGES).classes)
    allowed = 0.01 if plan.precision == "float16" else 0.25 if plan.quantised else 1e-5
    for x, y in ((a.activations, b.activations), (a.gradients, b.gradients)):
        assert 0 <= np.linalg.norm(x - y) / np.linalg.norm(x) < allowed
        assert plan.precision == "float32" or (x != y).any()


@pytest.mark.parametrize("plan", [HALF, INT8, replace(SYMMETRIC, rest="float16")], ids=str)
def test_detail_and_rivals_go_along(plan: Plan, tmp_path: Path) -> None:
    from cfcam.export import export_onnx, preset

    onnx.save(onnx_classifiers.make("plain"), tmp_path / "plain.onnx")
    source = export_onnx(tmp_path / "plain.onnx", tmp_path / "net.cam.onnx", preprocessing=preset("tf")).path
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    made = lower(source, tmp_path / "low.onnx", plan, [images])
    assert made.proof, made.proof.failures
    before, after = read_spec(source).layer, read_spec(made.path).layer
    assert before.detail is not None
    assert after.detail is not None
    assert (after.detail.name, after.detail.grid, after.rivals) == (
        before.detail.name,
        before.detail.grid,
        "cam_rivals",
    )
    with Explainer(source) as one, Explainer(made.path) as other:
        (a,), (b,) = one.tensors(images).layers, other.tensors(images, one.tensors(images).classes).layers
    for x, y in ((a.detail, b.detail), (a.rivals, b.rivals)):
        assert x is not None
        assert y is not None
        assert np.linalg.norm(x - y) / np.linalg.norm(x) < (0.25 if plan.quantised else 0.01)


class Torch:
    """A Q/DQ graph in PyTorch, with its own fake quantisation: the route that knows nothing of ours."""

    def __init__(self, graph: Graph, stop: str) -> None:
        self.graph, self.stop = graph, stop
        self.leaf: torch.Tensor | None = None

    def __call__(self, image: NDArray[np.float32]) -> torch.Tensor:
        graph = self.graph
        values = {name: torch.tensor(numpy_helper.to_array(t)) for name, t in graph.constants.items()}
        values["image"] = torch.tensor(image)
        for node in graph.nodes:
            if node.op_type == "QuantizeLinear":
                continue
            values[node.output[0]] = self._run(node, values)
            if node.output[0] == self.stop:
                self.leaf = values[self.stop].detach().requires_grad_()
                values[self.stop] = self.leaf
        return values["logits"]

    def _run(self, node: onnx.NodeProto, values: dict[str, torch.Tensor]) -> torch.Tensor:
        x: list[Any] = [values.get(name) for name in node.input]
        if node.op_type == "DequantizeLinear":
            quantiser = self.graph.producers.get(node.input[0])
            if quantiser is None:  # integers of a weight or a bias
                shape = [-1 if a == attribute(node, "axis", 1) else 1 for a in range(x[0].dim())]
                zero = x[2] if len(x) > 2 else torch.tensor(0)
                zero, scale = (p.reshape(shape) if p.numel() > 1 else p for p in (zero, x[1]))
                return (x[0].float() - zero.float()) * scale
            zero, scale = values[quantiser.input[2]], values[quantiser.input[1]]
            low, high = (0, 255) if zero.dtype == torch.uint8 else (-128, 127)
            return torch.fake_quantize_per_tensor_affine(values[quantiser.input[0]], float(scale), int(zero), low, high)
        if node.op_type == "Conv":
            pads, group = attribute(node, "pads", [0] * 4), attribute(node, "group", 1)
            stride = attribute(node, "strides", [1, 1])
            return F.conv2d(x[0], x[1], x[2] if len(x) > 2 else None, stride, pads[:2], groups=group)
        simple: dict[str, Any] = {
            "Relu": torch.relu,
            "Sigmoid": torch.sigmoid,
            "Flatten": lambda a: a.flatten(1),
            "GlobalAveragePool": lambda a: a.mean((2, 3), keepdim=True),
            "Gemm": F.linear,
            "Mul": torch.mul,
            "Add": torch.add,
            "Clip": lambda a, low, high: F.hardtanh(a, float(low), float(high)),  # its kinks count as flat, ReLU6's too
            "Identity": lambda a: a,
        }
        return simple[node.op_type](*x)


@pytest.mark.parametrize("plan", [INT8, SYMMETRIC], ids=["uint8", "int8"])
def test_gradient_is_autograds_of_the_quantised_network(plan: Plan, tmp_path: Path) -> None:
    """In a middle layer, with the images further out than the calibration's, so that some values saturate."""
    source = write("mobile", tmp_path / "net.cam.onnx", middle_of("mobile"))
    made = lower(source, tmp_path / "low.onnx", plan, [IMAGES], prove=False)
    layer = made.spec.layer.value
    graph = Graph(onnx.load(made.path))
    images = (1.7 * IMAGES[:4]).astype(np.float32)
    session = Session(str(made.path), optimise=False)
    classes = np.array([0, 2, 1, 3])
    ours = session.run({"image": images, "cam_target": classes})
    needed = graph.ancestors(["logits"])
    graph.nodes = [node for node in graph.nodes if node.output[0] in needed]
    network = Torch(graph, layer)
    logits = network(images)
    np.testing.assert_allclose(np.asarray(ours["logits"], float), logits.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert network.leaf is not None
    (want,) = torch.autograd.grad(logits[torch.arange(4), torch.tensor(classes)].sum(), network.leaf)
    assert np.linalg.norm(ours["cam_gradients"] - want.numpy()) / want.norm() < 1e-3
    assert len({g.tobytes() for g in ours["cam_gradients"]}) == 4


def test_fixed_batch(tmp_path: Path) -> None:
    """A network that takes five images at a time is calibrated with twelve, and knows the same ranges."""
    source = write("mobile", tmp_path / "net.cam.onnx")
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 5
    fixed = tmp_path / "fixed.cam.onnx"
    onnx.save(model, fixed)
    free, five = (lower(path, tmp_path / "low.onnx", INT8, [IMAGES]) for path in (source, fixed))
    assert five.proof
    assert five.calibration == free.calibration
    with Explainer(fixed) as one, Explainer(five.path) as other:
        a, b = one.tensors(IMAGES), other.tensors(IMAGES)
    assert np.linalg.norm(a.activations - b.activations) / np.linalg.norm(a.activations) < 0.25


def test_several_layers_and_the_tail(tmp_path: Path) -> None:
    """All target layers of a file go along, in their order, and so does a tail."""
    from cfcam.export import export_onnx, preset

    plain = tmp_path / "plain.onnx"
    onnx.save(certified_nets.mobile(), plain)
    early = middle_of("mobile")
    source = export_onnx(
        plain, tmp_path / "net.cam.onnx", layer=["last", early], preprocessing=preset("tf"), with_tail=True
    ).path
    made = lower(source, tmp_path / "low.cam.onnx", INT8, [IMAGES])
    assert made.proof
    assert [layer.name for layer in made.spec.layers] == ["last", early]
    assert made.spec.tail is not None
    assert (tmp_path / made.spec.tail.file).is_file()
    half = lower(source, tmp_path / "mixed.cam.onnx", replace(SYMMETRIC, rest="float16"), [IMAGES], prove=False)
    assert half.spec.tail is None
    assert "tail" in half.notes[-1]


@pytest.mark.parametrize(
    "plan", [Plan(precision="float16"), Plan(precision="int8", rest="float16")], ids=["float16", "int8 and float16"]
)
def test_the_rule_stays_float32(plan: Plan, guided_path: Path, tmp_path: Path) -> None:
    """The rule's map is what the host makes of the same lowered network, which was never fused."""
    images = np.random.default_rng(0).standard_normal((6, 3, 32, 32)).astype(np.float32)
    made = lower(guided_path, tmp_path / "f.cam.onnx", plan, [images], fuse=plan_fused)
    host = lower(guided_path, tmp_path / "h.cam.onnx", plan, [images], prove=False).path
    assert made.spec.precision == read_spec(host).precision != "float32"
    graph = onnx.shape_inference.infer_shapes(onnx.load(made.path)).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    rule = [name for node in graph.node for name in node.output if name.startswith("cam_fused") and name in kinds]
    assert len(rule) > 100
    assert onnx.TensorProto.FLOAT16 not in {kinds[name] for name in rule}
    with Explainer(made.path) as fused, Explainer(host) as two_stage:
        for a, b in zip(fused.explain_batch(images, 1), two_stage.explain_batch(images, 1), strict=True):
            np.testing.assert_allclose(a.map, b.map, atol=5e-3)
    # A fused source is lowered like the file that it was made from.
    again = lower(made.path, tmp_path / "a.cam.onnx", Plan(), prove=False)
    assert again.spec.fused is None


def test_refusals(cam: Path, tmp_path: Path) -> None:
    out = tmp_path / "low.onnx"
    for plan, images, words in (
        (INT8, None, "needs calibration images"),
        (INT8, [], "there are none"),
        (INT8, [IMAGES[:, :, :16]], "expected float32"),
        (INT8, [IMAGES.astype(np.float64)], "got float64"),
    ):
        with pytest.raises(ExportError, match=words):
            lower(cam, out, plan, images)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["net.cam.onnx"]
    with pytest.raises(ExportError, match="is the explained file itself"):
        lower(cam, cam, HALF)


def test_nodes_that_stay_float_among_int8_and_float16(cam: Path, tmp_path: Path) -> None:
    """They are float32 in the explained and in the plain graph alike, and both are run in the same way."""
    plain = plain_model(onnx.load(cam), read_spec(cam)).model
    names = [node.name for node in plain.graph.node if node.op_type in ("Conv", "Gemm")]
    plan = replace(SYMMETRIC, rest="float16", float_nodes=(names[len(names) // 2], names[-1]))
    made = lower(cam, tmp_path / "low.onnx", plan, [IMAGES])
    output = next(check for check in made.proof.checks if check.name.startswith("output "))
    assert output.value < 1e-6
