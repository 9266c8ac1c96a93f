"""Axes followed through modules' exports: which values have a grid, how they hold it, which is the default."""

from __future__ import annotations

import pytest
import torch
from cfcam.export.axes.layout import Digit
from cfcam.export.axes.onnx_values import map_axes
from cfcam.export.errors import LayerError
from cfcam.export.reverse.candidates import Candidate
from opened_modules import Opened, held_by, opened, shape_of
from torch import Tensor, nn
from torch.nn import functional as F

EXAMPLE = torch.zeros(1, 3, 24, 32)  # with patches of 4: 6 rows, 8 columns


class Patches(nn.Module):
    """Convolution to patches as channels-last (N, 6, 8, 10), then `mix`, a mean and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 10, 4, stride=4)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 5)

    def mix(self, cells: Tensor) -> Tensor:
        return cells

    def forward(self, image: Tensor) -> Tensor:
        cells = self.patches(image).permute(0, 2, 3, 1)
        return self.head(self.norm(self.mix(cells)).mean((1, 2)))


class Rolled(Patches):
    """Cells moved round, cut into windows of 2x4, mixed within them, put back, moved back."""

    def __init__(self) -> None:
        super().__init__()
        self.within = nn.Linear(8, 8)

    def mix(self, cells: Tensor) -> Tensor:
        n, h, w, c = cells.shape
        moved = torch.roll(cells, (-1, -2), (1, 2))
        windows = moved.reshape(n, h // 2, 2, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, c)
        windows = windows + self.within(windows.mT).mT
        back = windows.reshape(n, h // 2, w // 4, 2, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return cells + torch.roll(back, (1, 2), (1, 2))


class Merged(Patches):
    """2x2 cells become one of four times the channels, then of as many as before."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Linear(40, 10)

    def mix(self, cells: Tensor) -> Tensor:
        n, h, w, c = cells.shape
        blocks = cells.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduce(blocks)


class Units(Patches):
    """Tokens sorted by units of 2x2 cells, as Hiera keeps them; the mean is over tokens."""

    def forward(self, image: Tensor) -> Tensor:
        cells = self.patches(image)
        n, c, h, w = cells.shape
        tokens = cells.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1).reshape(n, h * w, c)
        return self.head(self.norm(tokens).mean(1))


class Tokens(Patches):
    """Tokens behind a class token; two blocks with attention; the head reads the class token, or a mean."""

    def __init__(self, head: str = "token") -> None:
        super().__init__()
        self.kind = head
        self.token = nn.Parameter(torch.randn(1, 2 if head == "two" else 1, 10))
        self.blocks = nn.ModuleList([nn.Linear(10, 10), nn.Linear(10, 10)])

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        for block in self.blocks:
            mixed = block(tokens)
            tokens = tokens + torch.softmax(mixed @ mixed.mT, -1) @ mixed
        tokens = self.norm(tokens)
        if self.kind == "mean":
            return self.head(tokens[:, 1:].mean(1))
        return self.head(tokens[:, 0] + tokens[:, 1] if self.kind == "two" else tokens[:, 0])


class Separate(Patches):
    """The class token attends to the grid twice and is apart from it, as in CaiT."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 10))
        self.stream = nn.Linear(10, 10)
        self.project = nn.ModuleList([nn.Linear(10, 20), nn.Linear(10, 20)])

    def forward(self, image: Tensor) -> Tensor:
        grid = self.patches(image).flatten(2).transpose(1, 2)
        grid = grid + self.stream(grid)
        token = self.token.expand(grid.shape[0], -1, -1)
        for project in self.project:
            key, value = project(torch.cat([token, grid], 1)).chunk(2, -1)
            token = token + F.scaled_dot_product_attention(token, key, value)
        return self.head(self.norm(torch.cat([token, grid], 1))[:, 0])


class AttentionPool(Patches):
    """One learned query reads keys and values of all cells."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 10))
        self.keys = nn.Linear(10, 20)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.norm(self.patches(image).flatten(2).transpose(1, 2))
        n, t, _ = tokens.shape
        key, value = self.keys(tokens).reshape(n, t, 2, 10).permute(2, 0, 1, 3).unbind(0)
        return self.head(F.scaled_dot_product_attention(self.query.expand(n, -1, -1), key, value)[:, 0])


def default(net: nn.Module) -> tuple[Opened, Candidate]:
    module = opened(net, EXAMPLE)
    return module, module.layer()


def planes_of(module: Opened, layer: Candidate) -> Tensor:
    """What the layer holds for an image, as (N, C, H, W)."""
    images = torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(layer.axes.to_nchw(held_by(module.graph, layer.name, images)))


@pytest.mark.parametrize("net", [Patches, Rolled])
def test_channels_last_layers_leave_with_channels_first(net: type[Patches]) -> None:
    module, layer = default(net())
    found = (module.shown(layer), layer.layout, shape_of(layer), module.pooled(layer))
    assert found == ("norm", "NHWC", (10, 6, 8), True)
    assert planes_of(module, layer).shape == (2, 10, 6, 8)


def test_merged_cells_are_a_coarser_grid() -> None:
    module, layer = default(Merged())
    assert (module.shown(layer), layer.layout, shape_of(layer)) == ("norm", "NHWC", (10, 3, 4))
    # The blocks themselves are a grid too, with the cells inside them as channels.
    axes, graph = map_axes(module.graph), module.graph
    shapes = {name: graph.shape(name) or () for name in graph.producers}
    layouts = [axes.layout(name) for name, shape in shapes.items() if len(shape) == 4 and shape[-1] == 40]
    assert [layout.kind for layout in layouts if layout is not None] == ["NHWC"] * len(layouts)
    assert layouts


def test_what_was_moved_round_has_no_known_place() -> None:
    module, _ = default(Rolled())
    axes, producers = map_axes(module.graph), module.graph.producers
    rolls = [
        node
        for node in module.graph.nodes
        if node.op_type == "Concat" and all(producers[part].op_type == "Slice" for part in node.input)
    ]
    assert len(rolls) == 4  # rows and columns, there and back
    assert [axes.layout(roll.output[0]) for roll in rolls] == [None] * 4


def test_tokens_in_another_order_come_out_in_reading_order() -> None:
    net = Units()
    module, layer = default(net)
    assert layer.axes.digits == (Digit("H", 1, 2), Digit("W", 1, 2), Digit("H", 2, 3), Digit("W", 2, 4))
    image = torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net.norm(net.patches(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(planes_of(module, layer), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("head", "prefix"), [("token", 1), ("two", 2)])
def test_behind_class_tokens_the_default_enters_the_last_block(head: str, prefix: int) -> None:
    module, layer = default(Tokens(head))
    found = (layer.layout, layer.prefix_tokens, shape_of(layer), module.pooled(layer))
    assert found == ("NTC", prefix, (10, 6, 8), False)
    assert enters(module, layer, "blocks.1")


def enters(module: Opened, layer: Candidate, path: str) -> bool:
    """Whether the layer is what this call of a module reads."""
    return not {*module.node(path).all_input_nodes}.isdisjoint(module.names.nodes(layer.name))


def test_a_mean_of_tokens_pools_the_value_that_still_has_the_class_token() -> None:
    module, layer = default(Tokens("mean"))
    assert (module.shown(layer), layer.prefix_tokens, module.pooled(layer)) == ("norm", 1, True)


def test_tokens_that_are_turned_round_to_be_pooled_are_the_layer() -> None:
    class Turned(Patches):
        def forward(self, image: Tensor) -> Tensor:
            tokens = self.norm(self.patches(image).flatten(2).transpose(1, 2))
            return self.head(F.adaptive_avg_pool1d(tokens.transpose(1, 2), 1).flatten(1))

    module, layer = default(Turned())
    found = (module.shown(layer), layer.layout, shape_of(layer), module.pooled(layer))
    assert found == ("norm", "NTC", (10, 6, 8), True)


def test_a_class_token_apart_from_the_grid_leaves_the_grid_as_the_default() -> None:
    module, layer = default(Separate())
    assert (layer.prefix_tokens, shape_of(layer)) == (0, (10, 6, 8))
    assert any(module.node("stream") in node.all_input_nodes for node in module.names.nodes(layer.name))


def test_an_attention_pooling_reads_the_value_before_its_projection() -> None:
    module, layer = default(AttentionPool())
    assert module.shown(layer) == "norm"


def test_a_grid_that_cannot_be_followed_is_asked_for() -> None:
    class Shuffled(Patches):
        def forward(self, image: Tensor) -> Tensor:
            tokens = self.patches(image).flatten(2).transpose(1, 2)
            order = torch.arange(47, -1, -1)
            return self.head(self.norm(tokens[:, order]).mean(1))

    module = opened(Shuffled(), EXAMPLE)
    with pytest.raises(LayerError, match="give their grid"):
        module.layer("norm")
    assert shape_of(module.layer("norm", (6, 8))) == (10, 6, 8)


def test_a_grid_that_contradicts_the_known_one_is_refused() -> None:
    module = opened(Tokens("mean"), EXAMPLE)
    assert module.layer("norm", (6, 8)).prefix_tokens == 1
    with pytest.raises(LayerError, match=r"layer 'norm' has a grid of 6x8, not \(8, 6\)"):
        module.layer("norm", (8, 6))
