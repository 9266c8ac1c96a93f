"""Operators between the layer and the score, each traced as part of a small net, against autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.torch_export import joint_graph
from cfcam.export.traced.candidates import find_score, resolve_value
from cfcam.export.traced.capture import capture
from cfcam.export.traced.eager import in_float64
from cfcam.export.traced.forward import FORWARD
from torch import Tensor, nn

OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool 1d": lambda x: F.max_pool1d(x.flatten(2), 4),
    "average pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "adaptive average pool": lambda x: F.adaptive_avg_pool2d(x, (5, 7)),
    "adaptive max pool": lambda x: F.adaptive_max_pool2d(x, (5, 4)),
    "nearest": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "nearest exact": lambda x: F.interpolate(x, size=(9, 17), mode="nearest-exact"),
    "bilinear": lambda x: F.interpolate(x, size=(9, 17), mode="bilinear"),
    "bilinear, aligned": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True),
    "bilinear, antialiased": lambda x: F.interpolate(x, size=(9, 7), mode="bilinear", antialias=True),
    "bicubic": lambda x: F.interpolate(x, size=(9, 17), mode="bicubic"),
    "area": lambda x: F.interpolate(x, size=(9, 5), mode="area"),
    "constant pad": lambda x: F.pad(x, (1, -2, 2, 1), value=2.0),
    "reflection pad": lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"),
    "replication pad": lambda x: F.pad(x, (1, 2, 2, 1), mode="replicate"),
    "circular pad": lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"),
    "instance norm": lambda x: F.instance_norm(x),
    "group norm": lambda x: F.group_norm(x, 3),
    "local response norm": lambda x: F.local_response_norm(x, 3),
    "rms norm": lambda x: F.rms_norm(x, (12,)),
    "prelu": lambda x: F.prelu(x - 0.5, x.new_full((6,), 0.3)),
    "glu": lambda x: F.glu(x, 1),
    "log sigmoid": F.logsigmoid,
    "transposed convolution": lambda x: F.conv_transpose2d(x, x.new_ones(6, 2, 3, 3), stride=2),
    "index": lambda x: x[:, [2, 0, 1, 4, 4]],
    "index of an axis": lambda x: x.index_select(2, torch.tensor([3, 1, 1, 5])),
    "maximum over channels": lambda x: x.amax(1),
}


class Net(nn.Module):
    """A convolution, an operator, a linear head."""

    def __init__(self, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.operator = operator
        self.head = nn.LazyLinear(5)

    def tail(self, value: Tensor) -> Tensor:
        return self.head(self.operator(value).flatten(1))

    def forward(self, image: Tensor) -> Tensor:
        return self.tail(self.stem(image).sigmoid())


def traced(net: Net) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    captured = capture(net, torch.empty(1, 3, 12, 12))
    score = find_score(captured)
    value = resolve_value(captured, score, "sigmoid")
    graph, (layer, logits) = in_float64(captured.graph, value.node, score.node)
    return joint_graph(graph, {layer: value.layout}, logits)


@pytest.mark.parametrize("name", OPERATORS)
def test_gradient_through_the_operator(name: str) -> None:
    torch.manual_seed(0)
    net = Net(OPERATORS[name])
    images, classes = torch.randn(7, 3, 12, 12), torch.arange(7) % 5
    with torch.no_grad():
        net(images)  # gives the head its size
    joint = traced(net)
    net.double()
    leaf = net.stem(images.double()).sigmoid().detach().requires_grad_()
    score = net.tail(leaf).gather(1, classes[:, None]).sum()
    (expected,) = torch.autograd.grad(score, leaf)
    *_, activations, gradients, _ = joint(images.double(), classes)
    torch.testing.assert_close(activations, leaf.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_indices_into_several_axes_are_refused() -> None:
    net = Net(lambda x: x[:, [2, 0, 1], [3, 3, 4]])
    with torch.no_grad():
        net(torch.randn(2, 3, 12, 12))
    with pytest.raises(UnsupportedOperatorError, match="indexed by several tensors at once"):
        traced(net)


def test_an_operator_that_writes_in_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch takes some operators apart into writes, which the later passes would lose."""
    monkeypatch.delitem(FORWARD, torch.ops.aten.pad.default)
    net = Net(OPERATORS["circular pad"])
    with torch.no_grad():
        net(torch.randn(2, 3, 12, 12))
    with pytest.raises(UnsupportedOperatorError, match=r"copy_\.default writes into its argument"):
        traced(net)
