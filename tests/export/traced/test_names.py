"""Every name that people know a value by leads to a value of the plain export, or to the neighbours that it has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cfcam.export.errors import LayerError
from cfcam.export.traced.float64 import values_of
from cfcam.export.traced.names import Names
from opened_modules import Opened, held_by, opened, shape_of
from small_nets import ConvNet, seeded
from torch import Tensor, nn

EXAMPLE = torch.zeros(1, 3, 40, 40)


@pytest.fixture(scope="module")
def conv_net() -> Opened:
    return opened(seeded(ConvNet()), EXAMPLE)


def assert_same_value(module: Opened, value: str, name: str) -> None:
    """The value of the export holds what has this name in PyTorch, in the layout of a candidate."""
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(7))
    (expected,) = values_of(module.captured.graph, images, module.node(name))
    have = held_by(module.graph, value, images)
    if have.shape != tuple(expected.shape):
        expected = expected.permute(0, 3, 1, 2)
    np.testing.assert_allclose(have, expected.numpy(), rtol=0, atol=1e-5)


def test_the_default_enters_the_last_pooling_after_its_non_linearity(conv_net: Opened) -> None:
    layer = conv_net.layer()
    assert conv_net.shown(layer) == "act:2"
    assert conv_net.names.operator(layer.name) == "relu"
    assert shape_of(layer) == (16, 6, 6)
    assert conv_net.pooled(layer)


def test_a_call_index_names_one_call_of_a_module(conv_net: Opened) -> None:
    shapes = [shape_of(conv_net.layer(f"act:{i}")) for i in range(3)]
    assert shapes == [(8, 20, 20), (12, 11, 11), (16, 6, 6)]


@pytest.mark.parametrize("path", ["act:0", "act:1", "act:2", "pool", "bn1", "bn2", "conv3", "conv3:0"])
def test_module_paths_and_calls(path: str, conv_net: Opened) -> None:
    value = conv_net.names.value(path)
    assert_same_value(conv_net, value, path)
    assert {path, path.removesuffix(":0")} & {*conv_net.names.all(value)}


def test_a_captured_value_and_a_module_path_are_two_names_of_one_layer(conv_net: Opened) -> None:
    by_path = conv_net.names.value("conv3")
    captured = conv_net.node("conv3").name
    assert conv_net.names.value(captured) == conv_net.names.value("conv3:0") == by_path
    assert {"conv3", captured, by_path} <= {*conv_net.names.all(by_path)}
    assert not conv_net.pooled(conv_net.layer("conv3"))


def test_an_ambiguous_path_lists_its_calls(conv_net: Opened) -> None:
    with pytest.raises(LayerError, match="'act' is called 3 times: choose one of act:0, act:1, act:2"):
        conv_net.names.value("act")


def test_a_wrong_name_is_answered_with_the_nearest_and_the_candidates(conv_net: Opened) -> None:
    with pytest.raises(LayerError, match=r"no layer 'conv9'; did you mean .*'conv[123]'.*conv3 16x") as caught:
        conv_net.names.value("conv9")
    assert "\n" not in str(caught.value)


def test_a_layer_without_a_grid_says_its_shape(conv_net: Opened) -> None:
    with pytest.raises(LayerError, match=r"layer 'fc' has shape \(N, 10\)"):
        conv_net.layer("fc")


def test_values_that_do_not_reach_the_score_are_no_layers() -> None:
    class Aside(ConvNet):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            features = self.features(image)
            return self.fc(features.mean((2, 3))), self.pool(features)

    module = opened(seeded(Aside()), EXAMPLE)
    with pytest.raises(LayerError, match="'pool:1' does not reach the score"):
        module.layer("pool:1")


def test_flattened_heads_take_the_value_before_the_flatten() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(5),
        nn.Flatten(),
        nn.Linear(150, 7),
    )
    module = opened(seeded(net), EXAMPLE)
    layer = module.layer()
    # The adaptive pooling finds a 5x5 grid and changes nothing; the pooled map is the layer.
    assert module.shown(layer) == "2"
    assert not module.pooled(layer)


def test_a_value_that_was_merged_away_is_answered_with_its_neighbours(conv_net: Opened) -> None:
    """The batch norm went into its convolution: what the convolution alone made is nowhere."""
    message = (
        r"layer 'conv2' is no value of PyTorch's ONNX export: it was merged with others; "
        r"neighbours that are: 'pool', 'bn2'"
    )
    with pytest.raises(LayerError, match=message) as caught:
        conv_net.names.value("conv2")
    for neighbour in str(caught.value).partition("that are: ")[2].partition(". ")[0].split(", "):
        conv_net.names.value(neighbour.strip("'"))


def test_a_name_of_the_export_itself(conv_net: Opened) -> None:
    node = next(node for node in conv_net.graph.nodes if node.op_type == "MaxPool")
    assert conv_net.names.value(node.output[0]) == node.output[0]
    if node.name:
        assert conv_net.layer(node.name).name == node.output[0]
    with pytest.raises(LayerError, match="no layer 'nothing_like_it'"):
        conv_net.names.value("nothing_like_it")


class Turned(ConvNet):
    """Axes are turned there and back, which the converter leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.turn, self.back = nn.Identity(), nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        cells = self.turn(self.features(image).permute(0, 2, 3, 1).contiguous())
        return self.fc(cells.permute(0, 3, 1, 2).mul(1.0).mean((2, 3)))


def test_a_value_in_another_layout_is_found_by_what_it_holds() -> None:
    module = opened(seeded(Turned()), EXAMPLE)
    assert module.node("permute_1").meta["val"].shape[1:] == (6, 6, 16)
    value = module.names.value("permute_1")
    assert (module.graph.shape(value) or ())[1:] == (16, 6, 6)
    assert_same_value(module, value, "permute_1")


class Twice(ConvNet):
    """A reshape to the shape that is there, beside which its input is used too."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)
        return self.fc((x + x.reshape(x.shape[0], 16, 6, 6).square()).mean((2, 3)))


def test_a_value_that_was_left_out_is_the_equal_one() -> None:
    module = opened(seeded(Twice()), EXAMPLE)
    name = next(n.name for n in module.captured.graph.graph.nodes if n.name.startswith(("view", "reshape")))
    assert_same_value(module, module.names.value(name), name)


def test_a_name_that_the_export_gives_to_another_value_is_not_trusted(conv_net: Opened) -> None:
    """Where the converter took operators apart, it counts anew."""
    graph = conv_net.graph.copy()
    right = conv_net.node("act:2").name
    for old, new in ((right, "moved"), ("conv2d_2", right)):
        if old in graph.producers:
            graph.rename(old, new)
    assert Names(conv_net.captured, graph, conv_net.score.value).value("act:2") == "moved"


class Idle(ConvNet):
    """A convolution that does nothing and a second ReLU: three values that hold the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Conv2d(16, 16, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(torch.relu(self.idle(torch.relu(self.features(image)))).mean((2, 3)))


def test_values_that_hold_the_same_numbers_are_told_apart() -> None:
    net = seeded(Idle())
    with torch.no_grad():
        net.idle.weight.copy_(torch.eye(16)[:, :, None, None])
    module = opened(net, EXAMPLE)
    relu, again = [n.name for n in module.captured.graph.graph.nodes if n.name.startswith("relu")][-2:]
    for name in (relu, "idle", again):
        value = module.names.value(name)
        assert module.names.node(value) is module.node(name)
        assert module.names.shown(value, None) == module.names.shown(value, name) == name
    assert len({module.names.value(name) for name in (relu, "idle", again)}) == 3
    assert module.names.node(module.layer().name) is module.node(again)


class Chaotic(nn.Module):
    """Rounding grows to some thousandths of the values on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, stride=4), nn.Conv2d(6, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(4):
            x = torch.sin(x * 25)
        return self.head(x).relu().mean((2, 3))


def test_a_value_whose_rounding_was_amplified_is_known_by_its_name_on_both_sides() -> None:
    module = opened(seeded(Chaotic()), EXAMPLE)
    value = module.names.value("head")
    node = module.names.node(value)
    assert node is not None
    assert node.name == module.node("head").name
    distance = module.names._nodes[node][1:] - module.names._values[value][1:]
    assert np.abs(distance).max() > 1e-3 * module.names._nodes[node][1]  # else this test shows nothing
