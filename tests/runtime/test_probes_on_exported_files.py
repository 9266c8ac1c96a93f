"""Probes on files that the exporter wrote: against pytorch-grad-cam, and where tails are unusual."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime import Explainer

onnx = pytest.importorskip("onnx", reason="exporting needs onnx")

import onnx_classifiers  # noqa: E402
import other_packages  # noqa: E402
from cfcam.export.onnx_export import export_onnx  # noqa: E402
from cfcam.export.sources.preprocessing import preset  # noqa: E402
from cfcam.runtime.cam import normalise  # noqa: E402


@pytest.mark.slow
def test_equal_to_pytorch_grad_cam_on_the_same_network(tmp_path):
    """The module in PyTorch with hooks; the file by ONNX Runtime with its tail."""
    torch = pytest.importorskip("torch", reason="the package to compare with needs PyTorch")
    package = other_packages.pytorch_grad_cam()
    from cfcam.export.torch_export import export_torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 12, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(12, 12, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 4),
    ).eval()
    with torch.no_grad():
        net[-1].weight *= 10
    images = torch.randn(2, 3, 40, 32)
    report = export_torch(net, (40, 32), tmp_path / "net.cam.onnx", layer="4", with_tail=True)
    logits = net(images).detach().numpy()
    classes = logits.argmax(axis=1).tolist()
    options = {"scorecam": ("ScoreCAM", {"align_corners": True}), "ablationcam": ("AblationCAM", None)}
    with Explainer(report.path, threads=1, probe_batch=5) as explainer:
        for name, (theirs, settings) in options.items():
            with getattr(package, theirs)(net, [net[4]]) as cam:
                targets = [lambda scores, index=index: scores[index] for index in classes]
                cam(images, targets)
                activations = cam.activations_and_grads.activations[0].numpy()
                grids = cam.get_cam_image(images, net[4], targets, activations, None, False)
            if name == "ablationcam":  # they divide by the logit, below zero too
                grids = grids * np.sign(logits.max(axis=1))[:, None, None]
            found = explainer.maps(images.numpy(), classes, name, settings)
            for ours, grid in zip(found, np.maximum(grids, 0), strict=True):
                np.testing.assert_allclose(ours, normalise(grid, (40, 32)), atol=1e-4)


@pytest.mark.parametrize(("name", "layer"), [("tokens", None), ("keras", None)])
def test_unusual_tails(name, layer, tmp_path):
    """One that takes the image too, since tokens were set aside; one of a model with channels last."""
    onnx.save(onnx_classifiers.make(name), tmp_path / "net.onnx")
    path = export_onnx(
        tmp_path / "net.onnx", tmp_path / "net.cam.onnx", layer=layer, with_tail=True, preprocessing=preset("lite")
    ).path
    rng = np.random.default_rng(0)
    with Explainer(path, threads=1, probe_batch=4) as explainer:
        assert explainer.spec.tail is not None
        assert (len(explainer.spec.tail.inputs) == 2) == (name == "tokens")
        images = rng.standard_normal((2, *explainer.spec.input.shape(1)[1:])).astype(np.float32)
        for method in ("ablationcam", "reciprocam"):
            maps = explainer.maps(images, 0, method)
            np.testing.assert_allclose(maps[1], explainer.maps(images[1:], 0, method)[0], atol=1e-4)
            if method == "ablationcam":
                assert np.abs(maps[0] - maps[1]).max() > 1e-2, "the image is that of the activations"
