"""Whole networks as ONNX Runtime's own optimisers rewrite them, against the network before that."""

from __future__ import annotations

import collections
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.graph import extract, load_model
from cfcam.export.reverse import differentiate, list_layers, vjp
from cfcam.export.reverse.opening import open_model
from onnx import ModelProto
from onnx_gradcheck import run_ort
from torch import nn

SIZE = 16
LEVELS = {
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class ConvNet(nn.Module):
    """Plain, strided, depthwise and pointwise convolutions, a residual sum, pooling, resizing, two linear layers."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), activation
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.depthwise, self.pointwise = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1)
        self.hidden, self.head = nn.Linear(12, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = self.act(self.second(self.act(self.norm(self.first(x)))))
        x = F.max_pool2d(x, 3, 2, 1)
        x = self.act(x + self.depthwise(x))
        x = self.act(F.interpolate(F.avg_pool2d(self.pointwise(x), 2), scale_factor=2.0))
        return self.head(self.act(self.hidden(x.mean((2, 3)))))


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A transformer block with 4 heads; first: normalised before its parts (ViT) or behind them (BERT)."""

    def __init__(self, activation: nn.Module, first: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.wide, self.narrow, self.act, self.first = nn.Linear(32, 64), nn.Linear(64, 32), activation, first
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)

    def attend(self, x):
        n, length, width = x.shape
        q, k, v = (part(x).view(n, length, 4, 8).transpose(1, 2) for part in (self.q, self.k, self.v))
        probabilities = (torch.matmul(q, k.transpose(-1, -2)) / 8**0.5).softmax(-1)
        return self.out(torch.matmul(probabilities, v).transpose(1, 2).reshape(n, length, width))

    def forward(self, x):
        def mix(y):
            return self.narrow(self.act(self.wide(y)))

        if self.first:
            x = x + self.attend(self.norm1(x))
            return x + mix(self.norm2(x))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + mix(x))


class ViT(nn.Module):
    def __init__(self, activation: nn.Module, first: bool = True) -> None:
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(3, 32, 4, 4), nn.Sequential(*(Block(activation, first) for _ in range(2)))
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 17, 32))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv, relu": lambda: ConvNet(nn.ReLU()),
    "conv, leaky": lambda: ConvNet(nn.LeakyReLU(0.1)),
    "conv, relu6": lambda: ConvNet(nn.ReLU6()),
    "conv, sigmoid": lambda: ConvNet(nn.Sigmoid()),
    "conv, tanh": lambda: ConvNet(nn.Tanh()),
    "conv, hard sigmoid": lambda: ConvNet(nn.Hardsigmoid()),
    "conv, silu": lambda: ConvNet(nn.SiLU()),
    "conv, hard swish": lambda: ConvNet(nn.Hardswish()),
    "vit, gelu": lambda: ViT(nn.GELU()),
    "vit, tanh gelu": lambda: ViT(nn.GELU("tanh")),
    "vit, quick gelu": lambda: ViT(QuickGelu()),
    "bert": lambda: ViT(nn.GELU(), first=False),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the path of a network's plain export."""
    folder = tmp_path_factory.mktemp("networks")

    def path_of(name: str) -> Path:
        path = folder / (name.replace(", ", "_").replace(" ", "_") + ".onnx")
        if not path.exists():
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    NETWORKS[name]().eval(), (torch.randn(2, 3, SIZE, SIZE),), str(path), dynamo=False,
                    opset_version=17, input_names=["image"], output_names=["logits"],
                    dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
                )  # fmt: skip
        return path

    return path_of


def fused_in(model: ModelProto) -> dict[str, int]:
    return dict(collections.Counter(n.op_type for n in model.graph.node if n.domain))


def by_session(source: Path, level: str, folder: Path) -> ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(folder / f"{level}.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return load_model(folder / f"{level}.onnx")


def assert_same_gradients(source: ModelProto, optimised: ModelProto) -> int:
    """At every layer that both graphs know by the same name; returns how many."""
    known = list_layers(source)
    after = {c.name for c in list_layers(optimised)}
    shared = [c.name for c in known if c.name in after]
    # The default layer too. Behind it, in a network with a class token, the gradient is zero.
    shared = shared[: shared.index(next(c.name for c in known if c.default)) + 1]
    x = np.random.default_rng(0).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    feeds = {"image": x, "cam_target": np.array([3, -1])}
    chosen = list(dict.fromkeys(shared[i] for i in (0, len(shared) // 2, -1)))
    for layer in chosen:
        want, got = (run_ort(differentiate(m, layer).model, feeds) for m in (source, optimised))
        for a, b in zip(want, got, strict=True):
            np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-4 * max(np.abs(a).max(), 1e-4))
        assert np.abs(got[2]).max() > 0
    return len(chosen)


EXPECTED = {
    "conv, relu": {"FusedConv", "FusedGemm"},
    "conv, leaky": {"FusedConv", "FusedGemm"},
    "conv, relu6": {"FusedConv"},
    "conv, sigmoid": {"FusedConv", "FusedGemm"},
    "conv, tanh": {"FusedConv", "FusedGemm"},
    "conv, hard sigmoid": {"FusedConv", "FusedGemm"},
    "conv, silu": {"QuickGelu"},
    "conv, hard swish": set(),
    "vit, gelu": {"BiasGelu", "FusedMatMul"},
    "vit, tanh gelu": {"FusedMatMul"},
    "vit, quick gelu": {"QuickGelu", "FusedMatMul"},
    "bert": {"BiasGelu", "FusedMatMul"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_graph_of_a_session(name: str, plain, tmp_path: Path) -> None:
    optimised = by_session(plain(name), "extended", tmp_path)
    assert set(fused_in(optimised)) == EXPECTED[name]
    assert assert_same_gradients(load_model(plain(name)), optimised) >= 2


def test_what_stays_fused_is_said(plain, tmp_path: Path) -> None:
    optimised = by_session(plain("conv, relu"), "extended", tmp_path)
    made = differentiate(optimised)
    assert any("ONNX Runtime's own (FusedConv, FusedGemm)" in note for note in made.notes)
    # Before the layer the file keeps what its engine runs fastest; nothing is added in that form.
    assert set(fused_in(made.model)) == {"FusedConv"}
    assert not [n.name for n in made.model.graph.node if n.domain and n.name.startswith("cam")]


def test_memory_layout_of_one_processor_is_refused(plain, tmp_path: Path) -> None:
    optimised = by_session(plain("conv, relu"), "all", tmp_path)
    # A processor with wider registers has a ReorderInput too.
    assert "ReorderOutput" in fused_in(optimised)
    with pytest.raises(UnsupportedOperatorError, match=r"com\.microsoft\.nchwc.*ORT_ENABLE_EXTENDED"):
        differentiate(optimised)


TRANSFORMERS = {
    "vit": ("vit, gelu", "vit", False, {"SkipLayerNormalization", "BiasGelu", "Attention"}),
    "multi-head": ("vit, quick gelu", "vit", True, {"SkipLayerNormalization", "QuickGelu", "MultiHeadAttention"}),
    "bert": ("bert", "bert", False, {"SkipLayerNormalization", "BiasGelu", "Attention"}),
    "tanh": ("vit, tanh gelu", "swin", False, {"SkipLayerNormalization", "FastGelu", "Attention"}),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_graph_of_the_transformer_optimiser(name: str, plain, tmp_path: Path) -> None:
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    network, kind, multi_head, expected = TRANSFORMERS[name]
    options = FusionOptions(kind)
    options.use_multi_head_attention = multi_head
    logging.disable(logging.CRITICAL)
    try:
        made = optimizer.optimize_model(
            str(plain(network)), kind, num_heads=4, hidden_size=32, opt_level=0, optimization_options=options
        )
    finally:
        logging.disable(logging.NOTSET)
    made.save_model_to_file(str(tmp_path / "optimised.onnx"))
    optimised = load_model(tmp_path / "optimised.onnx")
    assert set(fused_in(optimised)) == expected
    assert assert_same_gradients(load_model(plain(network)), optimised) >= 2


def test_channels_last_convolutions_of_the_transformer_optimiser(plain, tmp_path: Path) -> None:
    """The forward pass has no kernel on the processor: the tail behind the layer is compared alone."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    logging.disable(logging.CRITICAL)
    try:
        made = optimizer.optimize_model(
            str(plain("conv, silu")), "unet", num_heads=0, hidden_size=0, opt_level=0,
            optimization_options=FusionOptions("unet"),
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    made.save_model_to_file(str(tmp_path / "optimised.onnx"))
    optimised = load_model(tmp_path / "optimised.onnx")
    assert fused_in(optimised) == {"NhwcConv": 4}
    source = load_model(plain("conv, silu"))
    layer = next(n.input[0] for n in source.graph.node if n.op_type == "MaxPool")
    assert layer in {c.name for c in list_layers(optimised)}
    # Only the two convolutions before the layer are left as they were.
    assert fused_in(differentiate(optimised, layer).model) == {"NhwcConv": 2}
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    feeds = {layer: x, "cotangent_logits": np.eye(10, dtype=np.float32)[:2]}
    want, got = (
        run_ort(vjp(extract(open_model(m)[0], [layer], ["logits"]), [layer], ["logits"]), feeds)[0]
        for m in (source, optimised)
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert np.abs(want).max() > 0
