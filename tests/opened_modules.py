"""Modules brought to the point where an export chooses its layers: captured, converted, opened, with their names."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from cfcam.export.graph import Graph, value_info
from cfcam.export.proof.session import Session
from cfcam.export.reverse import differentiate
from cfcam.export.reverse.candidates import Candidate
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import Score, find_score
from cfcam.export.torch_export import _layer
from cfcam.export.traced.capture import Captured, capture
from cfcam.export.traced.convert import plain_to_onnx
from cfcam.export.traced.names import Names
from cfcam.export.traced.outputs import check_scores, output_place
from numpy.typing import NDArray
from torch import Tensor, fx, nn

__all__ = ["Opened", "held_by", "opened", "shape_of"]


class Opened(NamedTuple):
    """A captured module and its plain export. position: the place of the output that has the scores."""

    captured: Captured
    graph: Graph
    score: Score
    names: Names
    position: int

    def layer(self, name: str | None = None, grid: tuple[int, int] | None = None) -> Candidate:
        """The layer that an export takes for this name, or by default."""
        return _layer(self.graph, self.score, self.names, name, grid)

    def shown(self, layer: Candidate) -> str:
        """What the exported file calls a layer."""
        return self.names.all(layer.name)[0]

    def pooled(self, layer: Candidate) -> bool:
        """What the exported file says of a layer."""
        return differentiate(self.graph, layer.name, self.score.output, view=layer.axes).pooled

    def node(self, name: str) -> fx.Node:
        """The captured value that has this name, whether the export has it or not."""
        node = self.names._find(name)
        assert node is not None
        return node


def opened(net: nn.Module, image: Tensor, score: str | int | None = None) -> Opened:
    captured = capture(net.eval(), image)
    place = None if score is None else output_place(captured.output_names, score)
    check_scores(captured.outputs, place, captured.image.meta["val"].shape[0])
    graph, _ = open_model(plain_to_onnx(captured))
    names = graph.output_names
    found = find_score(graph, None if place is None else names[place])
    return Opened(captured, graph, found, Names(captured, graph, found.value), names.index(found.source))


def held_by(graph: Graph, name: str, images: Tensor | NDArray[Any]) -> NDArray[Any]:
    """What a value holds for `images` (N, C, H, W)."""
    probe = graph.copy()
    probe.outputs = [value_info(graph, name)]
    session = Session(probe.to_model())
    return session.run({session.inputs[0]: np.asarray(images)})[name]


def shape_of(layer: Candidate) -> tuple[int | None, ...]:
    """(C, H, W) as a layer leaves the file."""
    return (layer.channels, *layer.grid)
