"""What the values of a captured program are called in its plain ONNX export.

The converter keeps most names. Where it merged an operator with the next one (a batch norm into its convolution), or
turned axes round, a value is known by what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ..axes.layout import Layout
from ..axes.onnx_values import map_axes
from ..errors import LayerError
from ..graph import Graph, prune, value_info
from ..proof.images import structured_noise
from ..proof.results import image_errors
from ..proof.session import Session
from .attention import takes_apart
from .candidates import Value
from .capture import Captured
from .float64 import values_of

__all__ = ["NamesInExport"]

#: Images that tell values apart.
_IMAGES = 3
_SAME = 1e-4


class NamesInExport:
    """Finds values of `captured` in the graph of its plain export."""

    def __init__(self, captured: Captured, plain: Graph) -> None:
        self._captured, self._graph = captured, plain
        self._trusted = not takes_apart(captured.program)

    def of(self, value: Value | LayerError, asked: str | None = None) -> tuple[str, Layout | None]:
        """The name of `value`, and how what has that name holds the grid.

        asked: what the user calls it, which may be a name of the export's own: then the program has no such
        value, but a `LayerError` that says so. Raises `LayerError` where the export has none either, and for a value
        that the converter merged with others, with the neighbours that it has.
        """
        if isinstance(value, LayerError):
            if asked in self._graph.producers or any(node.name == asked for node in self._graph.nodes):
                return str(asked), None
            raise value
        own = value.node.name
        sizes = tuple(value.node.meta["val"].shape[1:])
        if own in self._graph.producers and self._trusted and (self._graph.shape(own) or ())[1:] == sizes:
            return own, value.layout
        images = self._images()
        (held,) = values_of(self._captured.graph, images, value.node)
        for name, axes, found in self._alike(images, value):
            wanted = held if axes == value.layout else value.layout.to_nchw(held)
            have = found if axes == value.layout else axes.to_nchw(found)
            if have.shape == tuple(wanted.shape) and image_errors(have, wanted.numpy()).max() < _SAME:
                return name, axes
        raise LayerError(
            f"layer '{value.name}' is no value of PyTorch's ONNX export: its operator was merged with others; "
            f"neighbours that are: {', '.join(self._neighbours(value)) or 'none'}"
        )

    def _images(self) -> torch.Tensor:
        _, channels, height, width = self._captured.image.meta["val"].shape
        return torch.from_numpy(structured_noise(_IMAGES, channels, height, width)).float()

    def _alike(self, images: torch.Tensor, value: Value) -> Iterator[tuple[str, Layout, NDArray[np.generic]]]:
        """Values of as many elements, for `images`: the one of the same name, those of the same shape, then others.

        Where attention was written out, names were counted anew: a name alone proves nothing.
        """
        graph, sizes = self._graph, tuple(value.node.meta["val"].shape[1:])
        same = {
            name: value.layout
            for name in graph.producers
            if graph.is_float(name) and (graph.shape(name) or ())[1:] == sizes
        }
        if value.node.name in same:
            yield from self._held({value.node.name: same.pop(value.node.name)}, images)
        layouts = map_axes(graph)
        for name in graph.producers:
            axes, shape = layouts.layout(name), (graph.shape(name) or ())[1:]
            if name not in same and axes is not None and axes.grid(shape) == value.shape:
                same[name] = axes
        yield from self._held(same, images)

    def _held(
        self, chosen: dict[str, Layout], images: torch.Tensor
    ) -> Iterator[tuple[str, Layout, NDArray[np.generic]]]:
        if not chosen:
            return
        probe = self._graph.copy()
        probe.outputs = [value_info(self._graph, name) for name in chosen]
        prune(probe)
        session = Session(probe.to_model())
        found = session.run({session.inputs[0]: images.numpy()})
        yield from ((name, axes, found[name]) for name, axes in chosen.items())

    def _neighbours(self, value: Value) -> list[str]:
        """Names of the nearest values on both sides that the export has."""
        nodes = list(self._captured.graph.graph.nodes)
        place = nodes.index(value.node)
        before = next((n.name for n in reversed(nodes[:place]) if n.name in self._graph.producers), None)
        behind = next((n.name for n in nodes[place + 1 :] if n.name in self._graph.producers), None)
        return [f"'{name}'" for name in (before, behind) if name is not None]
