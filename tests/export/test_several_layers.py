"""Several target layers in one file: what one-layer files give, from one backward pass."""

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
from cfcam.export.reverse import LayerView, differentiate
from cfcam.export.writing import write_model
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.contract.spec import SCHEMA
from cfcam.runtime.engines.tensorrt.build import parse_onnx
from counted import Work, executed
from onnx import ModelProto, helper
from small_nets import ConvNet, seeded
from tensorrt_required import require_tensorrt
from torch import Tensor, nn
from torch.nn import functional as F

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
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The last layer and, through a max pooling, an early one of one network."""
    folder = tmp_path_factory.mktemp("several")
    return export_torch(
        seeded(ConvNet()), SIZE, folder / "x.cam.onnx", layer=["act:2", "act:0"], keep_plain=folder / "plain.onnx"
    )


def test_the_file_says_what_it_holds(exported: ExportReport) -> None:
    spec = read_spec(exported.path)
    assert spec == exported.spec
    assert (spec.schema, spec.fusion) == (SCHEMA, "gate")
    assert [(la.name, la.channels, la.grid, la.pooled) for la in spec.layers] == [
        ("act:2", 16, (6, 6), True),
        ("act:0", 8, (20, 20), False),
    ]
    names = ["cam_activations", "cam_gradients", "cam_activations_1", "cam_gradients_1"]
    assert [name for la in spec.layers for name in (la.activations, la.gradients)] == names
    assert [o.name for o in session(exported.path).get_outputs()][1:] == [*names, "cam_class"]
    proved = {check.name for check in exported.proof.checks}
    for oracle in ("autograd", "differences"):
        name = f"gradient in float64 against {oracle}"
        assert {name, f"layer 'act:0': {name}"} <= proved


def test_the_gradients_are_the_slopes_of_the_module_itself(exported: ExportReport) -> None:
    """By hooks and autograd on the module: no graph of ours."""
    net = seeded(ConvNet())
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    classes = [3, 7, 0]
    found = answers(exported.path, classes)
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3, SIZE, SIZE)).astype(np.float32))
    net.act.inplace = False
    net.act.register_forward_hook(keep)
    net(image).gather(1, torch.tensor(classes)[:, None]).sum().backward()
    for value, number in ((kept[2], ""), (kept[0], "_1")):
        assert value.grad is not None
        same(found[f"cam_activations{number}"], value.detach().numpy(), 1e-5)
        same(found[f"cam_gradients{number}"], value.grad.numpy(), 1e-5)
    np.testing.assert_array_equal(found["cam_class"], classes)


def test_the_backward_pass_is_shared(
    exported: ExportReport, tmp_path: Path, summary_line: Callable[[str], None]
) -> None:
    """What is executed is what the early layer alone takes, and a few nodes that give out the other's gradient."""
    early = tmp_path / "early.cam.onnx"
    write_model(differentiate(onnx.load(str(exported.plain_path)), "relu").model, early)
    both, alone = executed(exported.path), executed(early)

    def multiply_adds(works: list[Work]) -> float:
        return sum(work.multiply_adds for work in works)

    assert multiply_adds(alone) > 0
    assert multiply_adds(both) == multiply_adds(alone)
    assert len(both) - len(alone) in range(4)
    summary_line(f"two layers: {len(both)} nodes, the early layer alone {len(alone)}")


@pytest.mark.parametrize("names", [["relu", "relu_2"], [None, "relu_1", "relu"]])
def test_any_order_of_layers(names: list[str | None], exported: ExportReport) -> None:
    """Only the places of the outputs change; None is the default layer."""
    plain = onnx.load(str(exported.plain_path))
    together = answers(differentiate(plain, names).model, [4, -1])
    for index, name in enumerate(names):
        alone, number = answers(differentiate(plain, name).model, [4, -1]), f"_{index}" if index else ""
        for kind in ("activations", "gradients"):
            same(together[f"cam_{kind}{number}"], alone[f"cam_{kind}"], 1e-6)
        np.testing.assert_array_equal(together["cam_class"], alone["cam_class"])


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
def test_layouts_and_branches_are_each_layers_own(tmp_path: Path) -> None:
    """(N, C, H, W), (N, H, W, C), tokens behind a class token; two layers of which neither leads to the other."""
    names = ["act:2", "left", "right", "block"]
    torch.manual_seed(0)
    report = export_torch(seeded(Mixed()), 48, tmp_path / "x.cam.onnx", layer=names)
    assert report.proof
    assert [layer.layout for layer in report.spec.layers] == ["NCHW", "NHWC", "NHWC", "NTC"]
    assert [layer.grid for layer in report.spec.layers] == [(7, 7)] * 4
    assert [layer.prefix_tokens for layer in report.spec.layers] == [0, 0, 0, 1]
    assert check_file(report.path)


def test_a_wrong_gradient_of_the_second_layer_is_caught(exported: ExportReport, tmp_path: Path) -> None:
    model = onnx.load(exported.path)
    for node in model.graph.node:
        if "cam_gradients_1" in node.output:
            node.output[:] = ["right"]
    model.graph.node.append(helper.make_node("Neg", ["right"], ["cam_gradients_1"]))
    write_model(model, tmp_path / "wrong.cam.onnx")
    found = check_file(tmp_path / "wrong.cam.onnx", source=exported.plain_path)
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
def test_refused_by_differentiate(layers: list[str | None], words: str) -> None:
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
    ("layers", "words"),
    [
        (["act:2", "act:2"], "layer 'act:2' is named twice"),
        (["act:1", None, "act:2"], "layers the default layer and 'act:2' are the same value"),
        (["conv3", "conv3:0"], "layers 'conv3' and 'conv3:0' are the same value"),
        (["act:1", "fc"], "layer 'fc' has shape"),
        (["act:1", "side"], "layer 'side' does not reach the score"),
        ([], "no target layer is named"),
    ],
)
def test_refused_by_export_torch(layers: list[str | None], words: str, tmp_path: Path) -> None:
    class Aside(ConvNet):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.Conv2d(16, 4, 1)

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            x = self.features(image)
            return self.fc(x.mean((2, 3))), self.side(x)

    with pytest.raises(ExportError, match=words):
        export_torch(seeded(Aside()), SIZE, tmp_path / "x.cam.onnx", layer=layers)
    assert list(tmp_path.iterdir()) == []


def test_tensorrt_takes_it(exported: ExportReport) -> None:
    require_tensorrt()
    result = parse_onnx(exported.path)
    assert result, str(result)
    operators = {node.op_type for node in onnx.load(exported.path).graph.node}
    assert not [op for op in operators if re.search("Scatter|NonZero|Gradient", op)]
