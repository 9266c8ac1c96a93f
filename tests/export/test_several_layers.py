"""Several target layers in one file: by either route what one-layer files give, from one backward pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime
import pytest
import torch
from cfcam.calibration.check import check_file
from cfcam.export import ExportError, ExportReport, LayerError, export_onnx, export_torch
from cfcam.export.graph.fast_forms import fast_forms
from cfcam.export.reverse import LayerView, differentiate
from cfcam.export.target_layers import output_names
from cfcam.export.torch_export import joint_graph
from cfcam.export.traced.candidates import find_score, resolve_value
from cfcam.export.traced.capture import capture
from cfcam.export.traced.convert import joint_to_onnx
from cfcam.export.traced.eager import in_float64
from cfcam.export.writing import write_model
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt.build import parse_onnx
from counted import Work, executed
from onnx import ModelProto, helper
from small_nets import ConvNet, seeded
from tensorrt_required import require_tensorrt
from torch import Tensor, nn
from torch.nn import functional as F

ROUTES = ("traced", "onnx")
SIZE = 40


class Mixed(ConvNet):
    """A convolution, a channels-last value, a branch that another one goes round, and tokens behind a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.mix, self.left, self.right = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.token = nn.Parameter(torch.full((1, 1, 16), 0.3))
        self.block = nn.Linear(16, 16)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.features(image).permute(0, 2, 3, 1))
        x = x + F.gelu(self.mix(x))
        x = torch.tanh(self.left(x)) * torch.sigmoid(self.right(x))
        tokens = torch.cat([self.token.expand(image.shape[0], -1, -1), x.flatten(1, 2)], 1)
        tokens = tokens + F.gelu(self.block(tokens))
        return self.fc(tokens.mean(1))


def session(model: Path | ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def answers(model: Path | ModelProto, classes: list[int], size: int = SIZE) -> dict[str, np.ndarray]:
    """Everything that the file gives for random images."""
    opened = session(model)
    image = opened.get_inputs()[0]
    sizes = [s if isinstance(s, int) else size for s in image.shape[1:]]
    batch = np.random.default_rng(0).standard_normal((len(classes), *sizes)).astype(np.float32)
    batch = batch.astype(np.float16) if "16" in image.type else batch
    found = opened.run(None, {image.name: batch, "cam_target": np.array(classes)})
    return dict(zip([o.name for o in opened.get_outputs()], map(np.asarray, found), strict=True))


def same(found: np.ndarray, wanted: np.ndarray, limit: float) -> None:
    assert np.abs(wanted).max() > 1e-6, "zero would equal anything"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=limit * np.abs(wanted).max())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportReport]:
    """Route -> the last layer and, through a max pooling, an early one of one network."""
    folder = tmp_path_factory.mktemp("several")
    return {
        route: export_torch(
            seeded(ConvNet()), SIZE, folder / f"{route}.cam.onnx", layer=["act:2", "act:0"],
            route=route, keep_plain=folder / f"{route}.plain.onnx",
        )
        for route in ROUTES
    }  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_the_file_says_what_it_holds(files: dict[str, ExportReport], route: str) -> None:
    report = files[route]
    spec = read_spec(report.path)
    assert spec == report.spec
    assert (spec.schema, spec.fusion) == ("1.2", "gate")
    assert [(la.name, la.channels, la.grid, la.pooled) for la in spec.layers] == [
        ("act:2", 16, (6, 6), True),
        ("act:0", 8, (20, 20), False),
    ]
    names = ["cam_activations", "cam_gradients", "cam_activations_1", "cam_gradients_1"]
    assert [name for la in spec.layers for name in (la.activations, la.gradients)] == names
    assert [o.name for o in session(report.path).get_outputs()][1:] == [*names, "cam_class"]
    proved = {check.name for check in report.proof.checks}
    oracle = "gradient in float64 against " + ("autograd" if route == "traced" else "differences")
    assert {oracle, f"layer 'act:0': {oracle}"} <= proved


@pytest.mark.parametrize("route", ROUTES)
def test_the_gradients_are_the_slopes_of_the_module_itself(files: dict[str, ExportReport], route: str) -> None:
    """By hooks and autograd on the module: no graph of ours."""
    net = seeded(ConvNet())
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    classes = [3, 7, 0]
    found = answers(files[route].path, classes)
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3, SIZE, SIZE)).astype(np.float32))
    net.act.inplace = False
    net.act.register_forward_hook(keep)
    net(image).gather(1, torch.tensor(classes)[:, None]).sum().backward()
    for value, number in ((kept[2], ""), (kept[0], "_1")):
        assert value.grad is not None
        same(found[f"cam_activations{number}"], value.detach().numpy(), 1e-5)
        same(found[f"cam_gradients{number}"], value.grad.numpy(), 1e-5)
    np.testing.assert_array_equal(found["cam_class"], classes)


@pytest.mark.parametrize("route", ROUTES)
def test_the_backward_pass_is_shared(
    files: dict[str, ExportReport], route: str, tmp_path: Path, summary_line: Callable[[str], None]
) -> None:
    """What is executed is what the early layer alone takes, and a few nodes that give out the other's gradient."""
    early, plain = tmp_path / "early.cam.onnx", onnx.load(str(files[route].plain_path))
    if route == "traced":
        captured = capture(seeded(ConvNet()), torch.empty(1, 3, SIZE, SIZE))
        score = find_score(captured)
        value = resolve_value(captured, score, "act:0")
        joint = joint_graph(captured.graph, {value.node: value.layout}, score.node)
        model = joint_to_onnx(joint, ["image", "cam_target"], ["linear", *output_names(0), "cam_class"])
        fast_forms(model, ["linear"])
    else:
        model = differentiate(plain, "relu").model
    write_model(model, early)
    both, alone = executed(files[route].path), executed(early)

    def multiply_adds(works: list[Work]) -> float:
        return sum(work.multiply_adds for work in works)

    assert multiply_adds(alone) > 0
    assert multiply_adds(both) == multiply_adds(alone)
    assert len(both) - len(alone) in range(4)
    summary_line(f"two layers by the route '{route}': {len(both)} nodes, the early layer alone {len(alone)}")


@pytest.mark.parametrize("names", [["act:0", "act:2"], [None, "act:1", "act:0"]])
def test_any_order_of_layers(names: list[str | None]) -> None:
    """Only the places of the outputs change; None is the default layer."""
    captured = capture(seeded(ConvNet()), torch.empty(1, 3, SIZE, SIZE))
    score = find_score(captured)
    values = [resolve_value(captured, score, name) for name in names]
    wide, (logits, *nodes) = in_float64(captured.graph, score.node, *(value.node for value in values))
    image, target = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64), torch.tensor([4, -1])
    with torch.no_grad():
        _, *together, chosen = joint_graph(wide, {n: v.layout for n, v in zip(nodes, values, strict=True)}, logits)(
            image, target
        )
        for index, (node, value) in enumerate(zip(nodes, values, strict=True)):
            _, activations, gradients, alone = joint_graph(wide, {node: value.layout}, logits)(image, target)
            torch.testing.assert_close(together[2 * index], activations, rtol=0, atol=1e-12)
            torch.testing.assert_close(together[2 * index + 1], gradients, rtol=0, atol=1e-12)
            assert torch.equal(chosen, alone)
            assert float(gradients.abs().max()) > 1e-5


#: Network -> layers that lie behind each other, beside each other, and in different layouts.
GRAPHS = {
    "plain": ["last", "early", "middle"],
    "half": ["middle", "last"],
    "softmax": ["early", "last"],
    "keras": ["early", None],
    "tokens": ["normed", "conv0", "stream"],
    "branch": ["inner", "sum", "early"],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_graphs_give_what_one_layer_at_a_time_gives(name: str) -> None:
    source, layers = onnx_classifiers.make(name), GRAPHS[name]
    made = differentiate(source, layers)
    onnx.checker.check_model(made.model, full_check=True)
    found = answers(made.model, [1, 5, 2], 32)
    for layer, target in zip(layers, made.layers, strict=True):
        single = differentiate(source, layer)
        alone = answers(single.model, [1, 5, 2], 32)
        limit = 2e-3 if name == "half" else 1e-5
        same(found[target.activations], alone["cam_activations"], limit)
        same(found[target.gradients], alone["cam_gradients"], limit)
        assert (target.layer, target.pooled) == (single.layer, single.pooled)
        assert found[target.gradients].dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_layouts_and_branches_are_each_layers_own(route: Any, tmp_path: Path) -> None:
    """(N, C, H, W), (N, H, W, C), tokens behind a class token; two layers of which neither leads to the other."""
    names = ["act:2", "left", "right", "block"]
    torch.manual_seed(0)
    report = export_torch(seeded(Mixed()), 48, tmp_path / "x.cam.onnx", layer=names, route=route)
    assert report.proof
    assert [layer.layout for layer in report.spec.layers] == ["NCHW", "NHWC", "NHWC", "NTC"]
    assert [layer.grid for layer in report.spec.layers] == [(7, 7)] * 4
    assert [layer.prefix_tokens for layer in report.spec.layers] == [0, 0, 0, 1]
    assert check_file(report.path)


def test_two_values_that_are_one_tensor_have_gradients_of_their_own() -> None:
    """A reshape to the shape that is there: what goes round it is part of its input's gradient only."""

    class Around(ConvNet):
        def forward(self, image: Tensor) -> Tensor:
            x = self.features(image)
            y = x.reshape(x.shape[0], 16, 6, 6)
            return self.fc((x + y.square()).mean((2, 3)))

    captured = capture(seeded(Around()), torch.empty(1, 3, SIZE, SIZE))
    score = find_score(captured)
    values = [resolve_value(captured, score, name) for name in ("act:2", "view_1")]
    joint = joint_graph(captured.graph, {value.node: value.layout for value in values}, score.node)
    with torch.no_grad():
        _, x, of_x, y, of_y, _ = joint(torch.randn(2, 3, SIZE, SIZE), torch.tensor([4, 1]))
    torch.testing.assert_close(x, y)
    torch.testing.assert_close(of_x, of_y * (1 + 1 / (2 * y.clamp_min(1e-12))) * (y > 0) + of_x * (y == 0))
    assert not torch.allclose(of_x, of_y)


def test_a_wrong_gradient_of_the_second_layer_is_caught(files: dict[str, ExportReport], tmp_path: Path) -> None:
    report = files["onnx"]
    model = onnx.load(report.path)
    for node in model.graph.node:
        if "cam_gradients_1" in node.output:
            node.output[:] = ["right"]
    model.graph.node.append(helper.make_node("Neg", ["right"], ["cam_gradients_1"]))
    write_model(model, tmp_path / "wrong.cam.onnx")
    found = check_file(tmp_path / "wrong.cam.onnx", source=report.plain_path)
    failed = {row.name for row in found.failures}
    assert "layer 'act:0': gradient in float64 against differences" in failed
    assert all(name.startswith("layer 'act:0': ") for name in failed)
    assert found.layer == "act:2, act:0"


def test_the_tail_is_that_of_the_first_layer(tmp_path: Path) -> None:
    onnx.save(onnx_classifiers.plain(), str(tmp_path / "net.onnx"))
    report = export_onnx(tmp_path / "net.onnx", tmp_path / "x.cam.onnx", layer=["middle", "last"], with_tail=True)
    assert report.spec.tail is not None
    assert report.spec.tail.inputs == ("cam_activations",)
    assert session(tmp_path / "x.tail.onnx").get_inputs()[0].shape == ["N", 12, 8, 8]
    assert {row.name: row.status for row in check_file(report.path).rows}["scores of the tail's own file"] == "ok"


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["middle", "middle"], "layer 'middle' is named twice: name each layer once"),
        (["middle", "last", "n_middle"], "layers 'middle' and 'n_middle' are the same value, 'middle': name each"),
        ([None, "last"], "layers the default layer and 'last' are the same value, 'last'"),
        (["last", "nowhere"], "no value or node 'nowhere'"),
        (["last", "flatten7"], r"layer 'flatten7' has shape .*expected a grid"),
        ([], "no target layer is named"),
    ],
)
def test_refused_by_the_onnx_route(layers: list[str | None], words: str) -> None:
    with pytest.raises(LayerError, match=words):
        differentiate(onnx_classifiers.plain(), layers)


def test_views_are_for_each_layer() -> None:
    with pytest.raises(LayerError, match="1 views for 2 layers: give one for each"):
        differentiate(onnx_classifiers.plain(), ["middle", "last"], view=[None])
    made = differentiate(
        onnx_classifiers.tokens(), ["stream", "conv0"], view=[LayerView(grid=(2, 8), prefix_tokens=1), None]
    )
    assert [target.layer.grid for target in made.layers] == [(2, 8), (4, 4)]


@pytest.mark.parametrize(
    ("route", "layers", "words"),
    [
        ("traced", ["act:2", "act:2"], "layer 'act:2' is named twice"),
        ("traced", ["act:1", None, "act:2"], "layers the default layer and 'act:2' are the same value"),
        ("onnx", ["conv2", "conv2:0"], "layers 'conv2' and 'conv2:0' are the same value"),
        ("traced", ["act:1", "fc"], "layer 'fc' has shape"),
        ("traced", ["act:1", "side"], "layer 'side' does not reach the score"),
        ("onnx", ["act:1", "side"], "no value or node 'side'"),
        ("traced", [], "no target layer is named"),
    ],
)
def test_refused_by_export_torch(route: Any, layers: list[str | None], words: str, tmp_path: Path) -> None:
    class Aside(ConvNet):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.Conv2d(16, 4, 1)

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            x = self.features(image)
            return self.fc(x.mean((2, 3))), self.side(x)

    with pytest.raises(ExportError, match=words):
        export_torch(seeded(Aside()), SIZE, tmp_path / "x.cam.onnx", layer=layers, route=route)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("route", ROUTES)
def test_tensorrt_takes_both_routes(files: dict[str, ExportReport], route: str) -> None:
    require_tensorrt()
    result = parse_onnx(files[route].path)
    assert result, str(result)
    operators = {node.op_type for node in onnx.load(files[route].path).graph.node}
    assert not [op for op in operators if re.search("Scatter|NonZero|Gradient", op)]
