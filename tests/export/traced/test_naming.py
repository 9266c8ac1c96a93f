"""Every name that people know a value by leads to a value of the plain export, or to the neighbours that it has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from cfcam.export.axes.layout import Layout
from cfcam.export.errors import LayerError
from cfcam.export.graph import Graph
from cfcam.export.proof.session import Session
from cfcam.export.reverse.opening import open_model
from cfcam.export.traced import naming
from cfcam.export.traced.candidates import Value, find_score, resolve_value
from cfcam.export.traced.capture import Captured, capture
from cfcam.export.traced.convert import plain_to_onnx
from cfcam.export.traced.float64 import values_of
from cfcam.export.traced.naming import NamesInExport
from numpy.typing import NDArray
from small_nets import ConvNet, seeded
from torch import Tensor, nn

SIZE = 40


class Known(NamedTuple):
    captured: Captured
    graph: Graph
    names: NamesInExport

    def value(self, name: str | None) -> Value:
        return resolve_value(self.captured, find_score(self.captured), name)


def known(net: nn.Module) -> Known:
    captured = capture(seeded(net), torch.zeros(1, 3, SIZE, SIZE))
    graph, _ = open_model(plain_to_onnx(captured))
    return Known(captured, graph, NamesInExport(captured, graph))


@pytest.fixture(scope="module")
def conv_net() -> Known:
    return known(ConvNet())


def held_by(graph: Graph, name: str, images: Tensor) -> NDArray[np.generic]:
    from cfcam.export.graph import value_info

    probe = graph.copy()
    probe.outputs = [value_info(graph, name)]
    session = Session(probe.to_model())
    return session.run({session.inputs[0]: images.numpy()})[name]


def assert_same_value(found: Known, name: str, axes: Layout | None, value: Value) -> None:
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    (expected,) = values_of(found.captured.graph, images, value.node)
    assert axes is not None
    have = axes.to_nchw(held_by(found.graph, name, images))
    np.testing.assert_allclose(have, value.layout.to_nchw(expected).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", ["act:0", "act:1", "act:2", "pool", "bn1", "bn2", "conv3", "conv3:0", None])
def test_module_paths_and_calls(path: str | None, conv_net: Known) -> None:
    value = conv_net.value(path)
    assert_same_value(conv_net, *conv_net.names.of(value, path), value)


def test_a_value_that_was_merged_away_is_answered_with_its_neighbours(conv_net: Known) -> None:
    """The batch norm went into its convolution: what the convolution alone made is nowhere."""
    message = (
        r"layer 'conv2' is no value of PyTorch's ONNX export: its operator was merged with others; "
        r"neighbours that are: 'max_pool2d', '\w+'"
    )
    with pytest.raises(LayerError, match=message) as caught:
        conv_net.names.of(conv_net.value("conv2"), "conv2")
    for neighbour in str(caught.value).split(": ")[-1].split(", "):
        conv_net.names.of(conv_net.value(neighbour.strip("'")))


def test_a_name_of_the_export_itself(conv_net: Known) -> None:
    unknown = LayerError("no layer 'x'")
    node = next(node for node in conv_net.graph.nodes if node.op_type == "MaxPool")
    assert conv_net.names.of(unknown, node.output[0]) == (node.output[0], None)
    if node.name:
        assert conv_net.names.of(unknown, node.name) == (node.name, None)
    with pytest.raises(LayerError, match="no layer 'x'"):
        conv_net.names.of(unknown, "nothing_like_it")


class Turned(ConvNet):
    """Axes are turned there and back, which the converter leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.turn, self.back = nn.Identity(), nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        cells = self.turn(self.features(image).permute(0, 2, 3, 1).contiguous())
        return self.fc(cells.permute(0, 3, 1, 2).mul(1.0).mean((2, 3)))


def test_a_value_in_another_layout_is_found_by_what_it_holds() -> None:
    found = known(Turned())
    value = found.value("permute_1")
    assert value.layout.kind == "NHWC"
    name, axes = found.names.of(value, "permute_1")
    assert_same_value(found, name, axes, value)


class Twice(ConvNet):
    """A reshape to the shape that is there, beside which its input is used too."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)
        return self.fc((x + x.reshape(x.shape[0], 16, 6, 6).square()).mean((2, 3)))


def test_a_value_that_was_left_out_is_the_equal_one() -> None:
    found = known(Twice())
    value = found.value("view_1")
    assert_same_value(found, *found.names.of(value, "view_1"), value)


def test_a_name_that_the_export_gives_to_another_value_is_not_trusted(
    conv_net: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where attention was written out."""
    monkeypatch.setattr(naming, "takes_apart", lambda _program: True)
    graph = conv_net.graph.copy()
    right = conv_net.value("act:2").node.name
    for old, new in ((right, "moved"), ("conv2d_2", right)):
        if old in graph.producers:
            graph.rename(old, new)
    value = conv_net.value("act:2")
    name, _ = NamesInExport(conv_net.captured, graph).of(value, "act:2")
    assert name == "moved"
