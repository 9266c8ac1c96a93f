"""Tokens in the order of windows: laid out right in the file, its tail, a lowered file, and in what `check` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from cfcam.calibration.check import check_file
from cfcam.export import ExportReport, export_torch
from cfcam.export.precision import Plan, lower
from small_nets import seeded
from torch import Tensor, nn

pytestmark = pytest.mark.slow

SIZE = (24, 32)  # with patches of 4: 6 rows, 8 columns
CLASSES = [0, 3, 4]


class Windows(nn.Module):
    """Swin in small: cells are cut into windows of 2x4 and mixed within them; tokens stay in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 10, 4, stride=4)
        self.norm, self.block = nn.LayerNorm(10), nn.Linear(10, 10)
        self.within = nn.Linear(8, 8)
        self.head = nn.Linear(10, 5)

    def windows(self, cells: Tensor) -> Tensor:
        n, c, h, w = cells.shape
        apart = cells.reshape(n, c, h // 2, 2, w // 4, 4).permute(0, 2, 4, 3, 5, 1)
        return apart.reshape(n, h * w, c)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.norm(self.windows(self.patches(image)))
        tokens = tokens + torch.tanh(self.block(tokens))
        tokens = tokens.reshape(-1, 8, 10)
        tokens = (tokens + self.within(tokens.mT).mT).reshape(-1, 48, 10)
        return self.head(torch.tanh(tokens).mean(1))


def expected(net: Windows, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What is at the layer and its gradient, put in reading order by going back the way that tokens came."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = net.norm.register_forward_hook(keep)
    net(images).gather(1, torch.tensor(CLASSES)[:, None]).sum().backward()
    handle.remove()
    (tokens,) = kept
    assert tokens.grad is not None
    places = net.windows(torch.arange(48.0).reshape(1, 1, 6, 8)).long().flatten()

    def laid_out(value: Tensor) -> np.ndarray:
        grid = torch.empty(len(value), 10, 48)
        grid[:, :, places] = value.detach().transpose(1, 2)
        return grid.reshape(len(value), 10, 6, 8).numpy()

    return laid_out(tokens), laid_out(tokens.grad)


@pytest.fixture(scope="module")
def net() -> Windows:
    torch.manual_seed(0)
    return seeded(Windows())


@pytest.fixture(scope="module")
def exported(net: Windows, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    path = tmp_path_factory.mktemp("windows") / "x.cam.onnx"
    return export_torch(net, SIZE, path, layer="norm", with_tail=True)


def answers(path: Path, images: Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: images.numpy(), "cam_target": np.array(CLASSES)}
    found = session.run(None, feeds)
    return {output.name: np.asarray(value) for output, value in zip(session.get_outputs(), found, strict=True)}


IMAGES = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(5))


def assert_laid_out(path: Path, net: Windows, limit: float) -> None:
    found = answers(path, IMAGES)
    for name, wanted in zip(("cam_activations", "cam_gradients"), expected(net, IMAGES), strict=True):
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=limit * np.abs(wanted).max())


def test_the_file_is_in_reading_order(exported: ExportReport, net: Windows) -> None:
    assert (exported.spec.layer.layout, exported.spec.layer.grid) == ("NTC", (6, 8))
    assert_laid_out(exported.path, net, 1e-5)


def test_its_tail_takes_them_so(exported: ExportReport) -> None:
    assert exported.spec.tail is not None
    found = answers(exported.path, IMAGES)
    tail = exported.path.with_name(exported.spec.tail.file)
    session = onnxruntime.InferenceSession(str(tail), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"cam_activations": found["cam_activations"]})
    np.testing.assert_allclose(np.asarray(scores), found[exported.spec.output.name], atol=1e-5)


def test_a_lowered_file_stays_so(exported: ExportReport, net: Windows, tmp_path: Path) -> None:
    made = lower(exported.path, tmp_path / "half.cam.onnx", Plan(precision="float16"), [IMAGES.numpy()])
    assert_laid_out(made.path, net, 1e-2)


def test_check_takes_it(exported: ExportReport) -> None:
    assert check_file(exported.path)
