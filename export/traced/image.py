"""The image that a module takes: how many channels it has, and the inputs beside it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from ...runtime.checks import expect
from ...runtime.errors import ArrayError
from ..errors import ExportError
from ..sources.preprocessing import parse_input_size
from .capture import evaluation_mode

__all__ = ["example_image", "fixed_inputs"]


def example_image(
    module: nn.Module, example: torch.Tensor | int | Sequence[int], channels: int | None = None
) -> torch.Tensor:
    """A tensor of the image's shape (N, C, H, W): `example`, or one of its side, or of its (H, W).

    channels: None takes three, or where `module` does not run on three, as many as its first convolution takes.
    Raises `ArrayError`.
    """
    if isinstance(example, torch.Tensor):
        if example.dim() != 4 or example.dtype != torch.float32:
            raise ArrayError(
                f"example: expected a float32 tensor (N, C, H, W), got {example.dtype} {tuple(example.shape)}"
            )
        if channels not in (None, example.shape[1]):
            raise ArrayError(f"channels: {channels}, but the example has {example.shape[1]}: {tuple(example.shape)}")
        return example
    expect("export_torch", "example", example, torch.Tensor, int, Sequence)
    height, width = parse_input_size(example, "example")
    return torch.empty(1, channels or _channels(module, height, width), height, width)


def _channels(module: nn.Module, height: int, width: int) -> int:
    first = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), 3)
    if first == 3 or _runs_on(module, 3, height, width) or not _runs_on(module, first, height, width):
        return 3
    return first


def _runs_on(module: nn.Module, channels: int, height: int, width: int) -> bool:
    try:
        with evaluation_mode(module), torch.no_grad():
            module(torch.zeros(1, channels, height, width))
    except Exception:  # whatever forward raises
        return False
    return True


@contextmanager
def fixed_inputs(module: nn.Module, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Inside, `module` takes the image alone; its other parameters of forward have the values of `inputs`.

    Arrays with a first axis of 1 are repeated for every image; anything else is passed as it is.
    Raises `ExportError` for a name that is no parameter, and where no parameter is left for the image.
    """
    if not inputs:
        yield
        return
    forward, own = module.forward, module.__dict__.get("forward")
    parameters = inspect.signature(forward).parameters
    kind = type(module).__name__
    for name, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY and name in inputs:
            raise ExportError(f"--input {name}: {kind}.forward takes it by its position only, it cannot be fixed")
    free_form = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [name for name in inputs if name not in parameters and not free_form]
    if unknown:
        raise ExportError(f"--input {unknown[0]}: {kind}.forward has no such input, it has {', '.join(parameters)}")
    left = [parameter for name, parameter in parameters.items() if name not in inputs]
    if not left:
        raise ExportError(f"{kind}.forward takes no input that is not fixed: one has to be the image")
    image_name, values = left[0].name, {name: _as_tensor(value) for name, value in inputs.items()}

    @functools.wraps(forward)
    def of_image(image: torch.Tensor) -> Any:
        others = {name: _for_each_image(value, image) for name, value in values.items()}
        if left[0].kind in (left[0].POSITIONAL_ONLY, left[0].VAR_POSITIONAL):
            return forward(image, **others)
        return forward(**{image_name: image, **others})

    rest = [parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD) for parameter in left[:1]]
    needed = [p for p in left[1:] if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    of_image.__signature__ = inspect.Signature([*rest, *needed])  # type: ignore[attr-defined]
    module.forward = of_image
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _as_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    return tensor.float() if tensor.dtype is torch.float64 else tensor


def _for_each_image(value: Any, image: torch.Tensor) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_floating_point():  # the module also runs in double precision
        value = value.to(image.dtype)
    return value.expand(image.shape[0], *value.shape[1:]) if value.dim() and value.shape[0] == 1 else value
