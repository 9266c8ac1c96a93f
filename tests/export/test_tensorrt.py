"""What the exporter writes is what TensorRT takes and builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cfcam.export import export_torch
from cfcam.runtime.engines.tensorrt.build import build_engine, parse_onnx
from small_nets import ConvNet, HeadConv, seeded
from tensorrt_required import require_tensorrt
from torch import Tensor, nn
from torch.nn import functional as F


class Strided(ConvNet):
    """Strides, wide enough that they go back by phases."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(8, 256, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(256)
        self.conv3 = nn.Conv2d(256, 256, 3, stride=2, padding=1)
        self.fc = nn.Linear(256, 10)


class Gated(ConvNet):
    """Hard swish, squeeze-and-excitation, average pooling, a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.hidden, self.fc = nn.Linear(16, 12), nn.Linear(12, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = F.hardswish(self.features(image) - 0.2)
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = F.avg_pool2d(F.relu6(x * gate + x), 3, 2, 1)
        return self.fc(F.gelu(self.hidden(x.mean((2, 3)))))


class Tokens(ConvNet):
    """A block of attention with layer norms behind the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image).flatten(2).transpose(1, 2)
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, 16))
        return self.fc(self.norm2(x).mean(1))


#: Name -> network, and the layer in the module. None is the default.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "last": (ConvNet, None),
    "through max pooling": (ConvNet, "act:0"),
    "softmax behind a pointwise head": (HeadConv, None),
    "strided": (Strided, "act:1"),
    "gated": (Gated, "act:1"),
    "tokens": (Tokens, "act:2"),
}
BUILT = ("through max pooling", "strided", "gated")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a network; made when it is first asked for."""
    require_tensorrt()
    folder = tmp_path_factory.mktemp("tensorrt")

    def file(name: str) -> Path:
        path = folder / f"{name.replace(' ', '-')}.cam.onnx"
        if not path.exists():
            make, layer = NETWORKS[name]
            torch.manual_seed(0)
            export_torch(seeded(make()), 48, path, layer=layer)
        return path

    return file


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_parser_accepts_the_file(exported: Callable[[str], Path], name: str) -> None:
    result = parse_onnx(exported(name))
    assert result, str(result)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_engines_are_built_for_a_gpu_that_is_not_here(exported: Callable[[str], Path], name: str) -> None:
    """Compute capability 8.6, batches of 1 to 8: what the parser accepts can still fail here."""
    engine = build_engine(exported(name), batch=(1, 4, 8), compute_capability="8.6")
    assert len(engine) > 10_000
