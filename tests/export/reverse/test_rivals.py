"""The rivals' gradient against autograd, and where there is none."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from cfcam.export import export_torch
from torch import nn


class Net(nn.Module):
    """Features, a pooling, and a head. kind: of the head."""

    def __init__(self, kind: str = "linear", classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.features = nn.Sequential(nn.Conv2d(3, 12, 4, stride=4), nn.ReLU())
        self.hidden = nn.Linear(12, 12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        if self.kind == "channels last":
            x = x.permute(0, 2, 3, 1).contiguous().mean((1, 2))
        elif self.kind == "flat":
            return self.head(x.flatten(1)[:, :12])
        elif self.kind == "maximum":
            x = x.amax((2, 3))
        else:
            x = x.mean((2, 3))
        if self.kind == "two linear":
            x = self.hidden(x)
        if self.kind == "hidden":
            x = torch.relu(self.hidden(x))
        x = self.head(x)
        return {"softmax": torch.softmax(x, 1), "sigmoid": torch.sigmoid(x)}.get(self.kind, x)


def by_autograd(net: Net, images: torch.Tensor, targets: list[int]) -> np.ndarray:
    kept = {}
    handle = net.features.register_forward_hook(lambda *call: call[2].retain_grad() or kept.update(value=call[2]))
    inside = net.kind
    net.kind = "linear" if inside == "softmax" else inside
    logits = net(images)
    net.kind = inside
    handle.remove()
    for row, target in enumerate(targets):
        others = [j for j in range(logits.shape[1]) if j != target]
        torch.logsumexp(logits[row, others], 0).backward(retain_graph=True)
    return kept["value"].grad.numpy()


@pytest.mark.parametrize(
    ("kind", "classes"), [("linear", 2), ("linear", 7), ("two linear", 7), ("softmax", 7), ("channels last", 7)]
)
def test_equals_autograd(tmp_path, kind, classes):
    net = Net(kind, classes).eval()
    with torch.no_grad():
        net.head.weight.mul_(8)  # logits that differ, so that the softmax counts
    report = export_torch(net, 16, tmp_path / "net.cam.onnx")
    assert report.spec.layer.rivals == "cam_rivals"
    session = onnxruntime.InferenceSession(str(tmp_path / "net.cam.onnx"), providers=["CPUExecutionProvider"])
    images, targets = torch.rand(3, 3, 16, 16), [0, 1, classes - 1]
    feeds = {session.get_inputs()[0].name: images.numpy(), "cam_target": np.array(targets)}
    found = np.asarray(session.run(["cam_rivals"], feeds)[0])
    expected = by_autograd(net, images, targets)
    assert found.shape == (3, 12, 1, 1)
    np.testing.assert_allclose(np.broadcast_to(found, expected.shape), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kind", "classes", "options"),
    [
        ("hidden", 5, {}),
        ("maximum", 5, {}),
        ("sigmoid", 5, {}),
        ("linear", 5, {"multi_label": True}),
        ("linear", 5, {"layer": "features.0"}),
    ],
)
def test_there_is_none_where_the_head_is_not_linear_or_classes_are_no_rivals(tmp_path, kind, classes, options):
    report = export_torch(Net(kind, classes).eval(), 16, tmp_path / "net.cam.onnx", **options)
    assert report.spec.layer.rivals is None
