"""Where autograd would stop, or goes another way: the file holds the derivative of what the network computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from cfcam.export import ExportReport, export_torch
from small_nets import ConvNet, seeded
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision_compat import import_torchvision

pytestmark = pytest.mark.slow

SIZE = 40
STOPS = "PyTorch's own autograd stops between layer"
ANOTHER = "PyTorch's own autograd gives another gradient"


def file_gradients(report: ExportReport, images: Tensor, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(report.path), providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: images.numpy(), "cam_target": np.array(classes)}
    activations, gradients = session.run(["cam_activations", "cam_gradients"], feeds)
    return np.asarray(activations), np.asarray(gradients)


def without_stops(net: ConvNet, tail: Callable[[Tensor], Tensor], images: Tensor, classes: list[int]) -> np.ndarray:
    """By autograd, of a tail that is written down once more without what stops it."""
    with torch.no_grad():
        features = net.features(images)
    leaf = features.detach().requires_grad_()
    picked = tail(leaf).gather(1, torch.tensor(classes)[:, None]).sum()
    return torch.autograd.grad(picked, leaf)[0].numpy()


class NoGrad(ConvNet):
    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(image)
        return self.fc(features.mean((2, 3)))


class Inference(ConvNet):
    def forward(self, image: Tensor) -> Tensor:
        with torch.inference_mode():
            features = self.features(image)
        return self.fc(features.mean((2, 3)))


class Decorated(ConvNet):
    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.features(image).mean((2, 3)))


class PooledWithout(ConvNet):
    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            pooled = self.features(image).mean((2, 3))
        return self.fc(pooled)


class Detached(ConvNet):
    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.features(image).detach().mean((2, 3)))


class Data(ConvNet):
    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.features(image).data.mean((2, 3)))


class Gated(ConvNet):
    """A gate that is detached on purpose."""

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        gate = torch.sigmoid(features.mean(1, keepdim=True)).detach()
        return self.fc((features * gate).mean((2, 3)))


def plain_tail(net: ConvNet) -> Callable[[Tensor], Tensor]:
    return lambda features: net.fc(features.mean((2, 3)))


def gated_tail(net: ConvNet) -> Callable[[Tensor], Tensor]:
    return lambda x: net.fc((x * torch.sigmoid(x.mean(1, keepdim=True))).mean((2, 3)))


#: Network -> its tail without stops, and what the notes say.
NETS: dict[type[ConvNet], tuple[Any, str]] = {
    NoGrad: (plain_tail, STOPS),
    Inference: (plain_tail, STOPS),
    Decorated: (plain_tail, STOPS),
    PooledWithout: (plain_tail, STOPS),
    Detached: (plain_tail, STOPS),
    Data: (plain_tail, STOPS),
    Gated: (gated_tail, ANOTHER),
}


@pytest.mark.parametrize("kind", NETS, ids=lambda kind: kind.__name__)
def test_the_gradient_is_that_of_the_whole_computation(kind: type[ConvNet], tmp_path: Path) -> None:
    net = seeded(kind())
    tail, note = NETS[kind]
    report = export_torch(net, SIZE, tmp_path / "x.cam.onnx", layer="act:2")
    assert report.proof
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    activations, gradients = file_gradients(report, images, [1, 7, 3])
    expected = without_stops(net, tail(net), images, [1, 7, 3])
    np.testing.assert_allclose(gradients, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    with torch.no_grad():
        np.testing.assert_allclose(activations, net.features(images).numpy(), atol=1e-5)
    (said,) = (line for line in report.warnings if "autograd" in line)
    assert said.startswith(note)


class Checkpointed(ConvNet):
    """Recomputes its second stage in training, and in eval mode as well, as timm's networks do."""

    reentrant = True

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.act(self.bn1(self.conv1(image))))
        x = checkpoint(lambda y: self.act(self.bn2(self.conv2(y))), x, use_reentrant=self.reentrant)
        return self.fc(self.act(self.conv3(x)).mean((2, 3)))


class CheckpointedAnew(Checkpointed):
    reentrant = False


def of_both_layers(net: ConvNet, folder: Path, images: Tensor) -> list[np.ndarray]:
    """The gradients at the value before the checkpoint and at the last one, from one file."""
    report = export_torch(net, SIZE, folder / "x.cam.onnx", layer=["act:2", "pool"])
    session = onnxruntime.InferenceSession(str(report.path), providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: images.numpy(), "cam_target": np.array([1, 7, 3])}
    names = [layer.gradients for layer in report.spec.layers]
    return [np.asarray(found) for found in session.run(names, feeds)]


def test_gradient_checkpointing(tmp_path: Path) -> None:
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    expected = of_both_layers(seeded(ConvNet()), tmp_path, images)
    for kind in (Checkpointed, CheckpointedAnew):
        found = of_both_layers(seeded(kind()), tmp_path, images)
        assert len(found) == len(expected) == 2
        for layer, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(layer, right, rtol=0, atol=1e-6 * np.abs(right).max())


def test_timms_checkpointing(tmp_path: Path) -> None:
    import_torchvision()
    import timm

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"img_size": (32, 64), "depth": 2, "embed_dim": 24, "num_classes": 5}
    net: Any = timm.create_model("vit_tiny_patch16_224", **sizes, pretrained=False)
    net.set_grad_checkpointing()
    report = export_torch(net, (32, 64), tmp_path / "x.cam.onnx")
    assert report.proof
    assert (report.spec.layer.grid, report.spec.layer.prefix_tokens) == ((2, 4), 1)


class Saturated(nn.Module):
    """Independent findings that are all certain: their float32 sigmoids are 1, one like the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 8, stride=8), nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(torch.relu(self.conv(image)).mean((2, 3))))


def test_a_head_whose_sigmoids_saturate(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Saturated().eval()
    with torch.no_grad():
        net.fc.bias.copy_(torch.tensor([40.0, 60.0, 50.0]))
    report = export_torch(net, SIZE, tmp_path / "x.cam.onnx")
    assert report.spec.output.kind == "sigmoid"
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(net(images), torch.ones(3, 3))
    activations, gradients = file_gradients(report, images, [0, 1, 2])
    expected = net.fc.weight.detach().numpy()[:, :, None, None] / 25 * np.ones_like(activations)
    np.testing.assert_allclose(gradients, expected, rtol=1e-5)
