"""Pass 1, capture: a PyTorch module becomes one flat, functional ATen graph.

Before: an `nn.Module` whose forward takes one image batch. After: a `Captured` whose graph
has no in-place operators, a symbolic batch size, and on every node the modules it was
called from, so that layers can be named as values.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen
from torch.overrides import TorchFunctionMode

from ..axes.traced_values import AxisMap, map_axes
from ..errors import ExportError
from .outputs import tensors_only

__all__ = ["TRACING_BATCH", "Captured", "capture", "evaluation_mode", "quiet_torch"]

#: Batch size used while tracing. Symbolic tracing merges sizes that are equal in the
#: example ("specialized it to be a constant"), so this is a prime that no layer has.
TRACING_BATCH = 509


@dataclass
class Captured:
    """A module's functional graph.

    graph: takes the image (N, C, H, W), returns a flat tuple of the module's tensors.
    program: the exported program that plain ONNX is made of.
    input_name: name of forward's image parameter. output_names: what the module calls each
    tensor that it returns ("" where it has no name).
    """

    graph: fx.GraphModule
    program: torch.export.ExportedProgram
    input_name: str
    output_names: tuple[str, ...] = ()

    @cached_property
    def axes(self) -> AxisMap:
        """What the axes of every value mean."""
        return map_axes(self.graph.graph)

    @property
    def image(self) -> fx.Node:
        """The graph's image input."""
        return next(node for node in self.graph.graph.nodes if node.op == "placeholder")

    @property
    def outputs(self) -> list[fx.Node]:
        """The nodes that the graph returns, in the module's order."""
        (node,) = (node for node in self.graph.graph.nodes if node.op == "output")
        return [value for value in node.args[0] if isinstance(value, fx.Node)]  # type: ignore[union-attr]


def capture(module: nn.Module, example: torch.Tensor) -> Captured:
    """Capture `module` on `example` (N, C, H, W), with a symbolic batch.

    Raises `ExportError` when the module takes more than one input, returns no tensor, or
    cannot be captured (data-dependent control flow, for instance).
    """
    input_name = _image_parameter(module)
    # Only the shape is read: the memory is reserved and never touched.
    batch = torch.empty(TRACING_BATCH, *example.shape[1:], dtype=example.dtype, device=example.device)
    try:
        with quiet_torch(), evaluation_mode(module), tensors_only(module) as names, torch.no_grad(), _Detaching():
            program = torch.export.export(module, (batch,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            # An empty table decomposes nothing; it makes in-place operators functional.
            program = program.run_decompositions({})
    except Exception as error:
        # torch.export raises a dozen types, several of them private.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(
            f"{type(module).__name__}: torch.export cannot capture this module with input "
            f"{tuple(example.shape)} ({type(error).__name__}: {reason})"
        ) from error
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    captured = Captured(graph, program, input_name, tuple(names))
    _flatten_output(captured)
    if not captured.outputs:
        raise ExportError(f"{type(module).__name__}: forward returns no tensor")
    return captured


class _Detaching(TorchFunctionMode):
    """``x.data`` is ``x.detach()``: torch.export takes it for a constant of the program."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        return func(*args, **(kwargs or {}))


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put `module` into eval mode, and every submodule back afterwards."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        yield
    finally:
        for m in training:
            m.training = True


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Hide the warnings that torch.export and the ONNX exporter print about themselves."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _image_parameter(module: nn.Module) -> str:
    parameters = [
        p
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
    ]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if len(needed) > 1:
        raise ExportError(
            f"{type(module).__name__}.forward needs {len(needed)} inputs ({', '.join(needed)}): "
            "cfcam explains classifiers of one image; wrap the module in one that takes only the image"
        )
    if not parameters:
        raise ExportError(f"{type(module).__name__}.forward takes no image")
    return parameters[0].name


def _flatten_output(captured: Captured) -> None:
    """Make the graph return a flat tuple of its tensors, whatever the module returns."""
    graph = captured.graph
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    flat: list[fx.Node] = []
    fx.map_arg(output.args[0], lambda node: flat.append(node) or node)
    with graph.graph.inserting_before(output):
        graph.graph.output(tuple(flat))
    graph.graph.erase_node(output)
    graph.graph.set_codegen(CodeGen())
    graph.graph.eliminate_dead_code()
    graph.recompile()
