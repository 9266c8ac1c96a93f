"""The image that a module takes, and what is fixed beside it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from cfcam.export import ExportError, export_torch, preset
from cfcam.export.traced.image import example_image, fixed_inputs
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.explainer import Explainer
from small_nets import seeded
from torch import nn


class Net(nn.Module):
    """Of any number of channels, with metadata beside the image, and a factor."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 8, stride=8)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4 + 5, 3)

    def forward(self, meta: torch.Tensor, image: torch.Tensor, *, factor: float) -> torch.Tensor:
        return self.fc(torch.cat([self.relu(self.conv(image)).mean((2, 3)) * factor, meta], 1))


class Bands(Net):
    def forward(self, image: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(image.new_zeros(image.shape[0], 5), image, factor=1.0)


def test_the_number_of_channels():
    assert example_image(Bands(3), 32).shape == (1, 3, 32, 32)
    assert example_image(Bands(7), (16, 32)).shape == (1, 7, 16, 32)
    assert example_image(Bands(7), 32, 5).shape == (1, 5, 32, 32)
    assert example_image(Bands(1), torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    with pytest.raises(ArrayError, match="channels: 4, but the example has 1"):
        example_image(Bands(1), torch.zeros(2, 1, 8, 8), 4)


def test_a_module_of_eleven_channels_explains_photos_of_eleven_channels(tmp_path):
    net = seeded(Bands(11))
    whole = preset("torchvision").override(mode="stretch")  # says nothing about the pixels
    report = export_torch(net, 32, tmp_path / "x.cam.onnx", preprocessing=whole)
    assert report.proof
    assert (report.spec.input.color, report.spec.input.channels) == ("channels", 11)
    assert any("x = p / 255 was assumed" in note for note in report.warnings)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 11), np.uint8)
    np.save(tmp_path / "photo.npy", pixels)
    with torch.no_grad():
        scores = net(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255).numpy()[0]
    with Explainer(tmp_path / "x.cam.onnx") as explainer:
        np.testing.assert_allclose(np.asarray(explainer.explain(tmp_path / "photo.npy").logits), scores, atol=1e-4)


def test_inputs_are_fixed_by_their_names_and_kept_in_the_file(tmp_path):
    net = seeded(Net())
    meta = np.array([[0.5, -1, 2, 0, 3]], np.float32)
    report = export_torch(net, 32, tmp_path / "x.cam.onnx", inputs={"meta": meta, "factor": 2.0})
    assert report.proof
    assert "forward" not in net.__dict__
    session = onnxruntime.InferenceSession(str(tmp_path / "x.cam.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["image", "cam_target"]
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(torch.from_numpy(meta).expand(3, 5), images, factor=2.0)
    targets = np.array([2, 0, 1])
    answers = session.run(None, {"image": images.numpy(), "cam_target": targets})
    scores, activations, gradients = map(np.asarray, answers[:3])
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)
    wanted = net.fc.weight[targets, :4].detach().numpy() * 2 / 16
    np.testing.assert_allclose(gradients, np.broadcast_to(wanted[:, :, None, None], activations.shape), rtol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, r"Net.forward needs 3 inputs \(meta, image, factor\): .*--input factor=factor.npy"),
        ({"factor": 1.0}, r"needs 2 inputs \(meta, image\)"),
        ({"metadata": 1.0}, "--input metadata: Net.forward has no such input, it has meta, image, factor"),
        ({"factor": 1.0, "meta": 1.0, "image": 1.0}, "one has to be the image"),
        ({"factor": 1.0, "meta": np.zeros((1, 4), np.float32)}, "does not run on an image"),
    ],
)
def test_what_is_not_fixed_or_does_not_fit_is_refused(inputs, words, tmp_path):
    with pytest.raises(ExportError, match=words):
        export_torch(seeded(Net()), 32, tmp_path / "x.cam.onnx", inputs=inputs)
    assert not list(tmp_path.iterdir())


def test_a_forward_of_the_modules_own_is_put_back():
    net = seeded(Net())
    net.forward = own = net.forward  # type: ignore[method-assign]
    with fixed_inputs(net, {"factor": 1.0, "meta": np.zeros((1, 5), np.float32)}):
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert net.forward is own
