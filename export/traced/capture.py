"""Pass 1, capture: a PyTorch module becomes one flat, functional ATen graph.

Before: an `nn.Module` whose forward takes one image batch. After: a `Captured` whose graph
has no in-place operators, a symbolic batch size, and on every node the modules it was
called from, so that layers can be named as values.
"""

from __future__ import annotations

import inspect
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen
from torch.overrides import TorchFunctionMode

from ..errors import ExportError
from ..wording import first_line, words
from .outputs import tensors_only

__all__ = ["TRACING_BATCH", "Captured", "capture", "evaluation_mode", "quiet_torch"]

_log = logging.getLogger("cfcam.export.capture")

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
    said = io.StringIO()
    dynamic = ({0: torch.export.Dim("batch")},)
    try:
        with quiet_torch(), redirect_stderr(said), evaluation_mode(module), tensors_only(module) as names:
            with torch.no_grad(), _DataIsDetached():
                program = torch.export.export(module, (batch,), dynamic_shapes=dynamic)
            # An empty table decomposes nothing; it makes in-place operators functional.
            program = program.run_decompositions({})
    except Exception as error:
        # torch.export raises a dozen types, several of them private.
        _log.debug("torch.export: %s\n%s", said.getvalue(), error)
        raise ExportError(_why_not(module, example, error, said.getvalue())) from error
    sys.stderr.write(said.getvalue())  # what forward itself has to say
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    captured = Captured(graph, program, input_name, tuple(names))
    _flatten_output(captured)
    if not captured.outputs:
        raise ExportError(f"{type(module).__name__}: forward returns no tensor")
    return captured


class _DataIsDetached(TorchFunctionMode):
    """``x.data`` gives a tensor that no tracer follows, and is what ``x.detach()`` is to a graph."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        func = torch.Tensor.detach if func == torch.Tensor.data.__get__ else func  # type: ignore[attr-defined]
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


def _why_not(module: nn.Module, example: torch.Tensor, error: Exception, listing: str) -> str:
    """One sentence on why `module` was not captured: what about it, where that is known, and what to do.

    listing: what PyTorch printed, with the line of code that each of its operators comes from.
    """
    name, text, kind = type(module).__name__, str(error), type(error).__name__
    if "DataDependent" in kind or "data-dependent" in text:
        lines = re.findall(r"# File: (\S+:\d+) in \w+, code: (.*)", listing)
        where = f" ({Path(lines[-1][0]).name}: {lines[-1][1].strip()})" if lines else ""
        return (
            f"{name}: forward decides by the values of a tensor{where}; a graph holds one way only: write it without "
            "that (torch.where, torch.cond), or export the part that does not decide"
        )
    if "Constraints violated (batch)" in text:
        return f"{name}: forward fixes or limits the number of images, which has to stay free: read it off the input"
    if ".numpy()" in text:
        return f"{name}: forward leaves PyTorch (.numpy()), where no graph can follow: use torch's own functions"
    try:
        with evaluation_mode(module), torch.no_grad():
            module(torch.zeros(1, *example.shape[1:], dtype=example.dtype))
    except Exception as own:  # whatever forward raises
        return f"{name} does not run on an image (1, {', '.join(map(str, example.shape[1:]))}): {words(own)}"
    return (
        f"{name}: torch.export cannot capture this module with input {tuple(example.shape)} ({kind}: "
        f"{first_line(error)}); cfcam --debug shows PyTorch's own listing"
    )


def _image_parameter(module: nn.Module) -> str:
    everything = inspect.signature(module.forward).parameters.values()
    parameters = [p for p in everything if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    needed = [p.name for p in everything if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1:
        raise ExportError(
            f"{type(module).__name__}.forward needs {len(needed)} inputs ({', '.join(needed)}): fix those that are not "
            f"the image with --input NAME=VALUE or NAME=FILE.npy, such as --input {needed[-1]}={needed[-1]}.npy with a "
            f"value of shape (1, ...) for one image (inputs={{'{needed[-1]}': array}} in Python); the file keeps it"
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
