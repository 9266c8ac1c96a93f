"""What depends on sizes alone is a tensor of the file; weights stay what they are."""

from __future__ import annotations

import torch
from cfcam.export.traced.capture import Captured, capture
from cfcam.export.traced.constants import fold_constants
from cfcam.export.traced.fold import copy_graph
from torch import Tensor, nn


class Masked(nn.Module):
    """Makes a mask by writing into slices, as shifted windows do, and scales it by a weight."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(6.0))
        self.register_buffer("index", torch.tensor([[5, 0], [1, 1]]))
        self.head = nn.Linear(3, 4)

    def forward(self, image: Tensor) -> Tensor:
        mask = image.new_zeros(8, 8)
        for number, rows in enumerate((slice(0, -4), slice(-4, None))):
            mask[rows, 2:] = float(number + 1)
        apart = (mask[:, None] - mask[None]).masked_fill(mask[:, None] != mask[None], -100.0).sum((0, 1))
        bias = self.table[self.index.flatten()].sum()
        return self.head((image * (1 + apart.exp()) + bias).mean((2, 3)))


def folded(net: nn.Module) -> tuple[Captured, torch.fx.GraphModule]:
    captured = capture(net.eval(), torch.zeros(1, 3, 8, 8))
    copied, _ = copy_graph(captured.graph)
    return captured, fold_constants(copied)


def test_masks_become_tensors_and_nothing_else_changes() -> None:
    net = Masked()
    captured, graph = folded(net)
    before = [str(n.target) for n in captured.graph.graph.nodes if n.op == "call_function"]
    after = [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]
    assert any("scatter" in name for name in before)
    assert not any("scatter" in name or "new_zeros" in name or "fill" in name for name in after)
    image = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(graph(image)[0], net(image), rtol=0, atol=0)


def test_what_is_made_of_weights_is_not_stored() -> None:
    _, graph = folded(Masked())
    read = {str(n.target) for n in graph.graph.nodes if n.op == "get_attr"}
    assert "table" in read
    assert any("index" in str(n.target) for n in graph.graph.nodes if n.op == "call_function")  # the look-up stays
