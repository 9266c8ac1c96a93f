"""``cfcam adopt``: the manifest of an engine that NVIDIA's own builder made of our graph."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import say

__all__ = ["adopt"]


def adopt(
    engine: Annotated[str, typer.Argument(metavar="X.engine", help="What the command in X.trtexec.sh has built.")],
    graph: Annotated[
        str,
        typer.Option("--graph", metavar="X.onnx", help="The graph that it was built from."),
    ],
) -> None:
    """Write the manifest of an engine that was built on this machine from a graph of `cfcam build --onnx-only`.

    The engine is opened to see that it fits. Needs neither onnx nor PyTorch.
    """
    from ..runtime.contract.manifest import Manifest
    from ..runtime.engines.tensorrt.adopting import adopt_engine

    manifest = adopt_engine(engine, graph)
    where = "" if manifest.target is None else f" for {manifest.target.gpu} ({manifest.target.compute_capability})"
    say(f"{Manifest.place(engine)}: {manifest.backend.name} {manifest.backend.version}{where}, {manifest.precision}")
