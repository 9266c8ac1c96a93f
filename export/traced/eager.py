"""Eager PyTorch: the user's own module, run as it stands, and differentiated by its own autograd.

The value that is the target layer need not be the result of a module, so it is recognised by its contents: while the
module runs, every call of a torch function is watched, and the first result that equals the captured value becomes
the leaf. Results behind it may equal it too (a second ReLU), and have gradients of their own. Nothing of the capture
is used but those numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .capture import evaluation_mode
from .outputs import by_class, named_tensors

__all__ = ["eager_outputs", "own_gradient"]


def eager_outputs(module: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """What the module returns for `images`, flat."""
    with evaluation_mode(module), torch.no_grad():
        return [tensor for _, tensor in named_tensors(module(images))]


def own_gradient(
    module: nn.Module, images: torch.Tensor, layer: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor
) -> list[torch.Tensor]:
    """Gradients of each image's score of its class (N,) by the module's own autograd.

    At the layer and at values behind it that equal it, in the order of computation; none where it does not reach.

    images, layer, scores: in float64, in which the module runs; layer, scores: the values to recognise.
    Raises `LookupError` when the run makes no such values, and whatever the module raises in float64.
    """
    watch = _Watch(layer, by_class(scores))
    with evaluation_mode(module), torch.enable_grad(), watch:
        module(images)
    if not watch.layers or watch.scores is None:
        raise LookupError("score" if watch.layers else "layer")
    if not watch.scores.requires_grad:
        return []
    picked = watch.scores.gather(1, classes[:, None]).sum()
    gradients = torch.autograd.grad(picked, watch.layers, allow_unused=True)
    return [gradient for gradient in gradients if gradient is not None]


class _Watch(TorchFunctionMode):
    """Finds values by content: those equal to `layer`, of which the first is a leaf, and the last equal to `scores`."""

    def __init__(self, layer: torch.Tensor, scores: torch.Tensor) -> None:
        super().__init__()
        self._layer, self._wanted_scores = layer, scores
        self.layers: list[torch.Tensor] = []
        self.scores: torch.Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options: dict[str, Any] = kwargs or {}
        if func not in _CONSTANTS:
            # "Upcasts" to float32, as in many attentions, would throw the precision away.
            func = torch.Tensor.double if func is torch.Tensor.float else _EXACT.get(func, func)
            args, options = _in_float64(args), _in_float64(options)
        result = func(*args, **options)
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return result
        if func in _BATCH_NORMS and result.requires_grad:
            result.register_hook(torch.Tensor.contiguous)
        if not self.layers and _equal(result, self._layer):
            self.layers.append(result.detach().clone().requires_grad_(True))
            return self.layers[0].clone()  # in-place operators may follow, and a leaf refuses them
        if result.requires_grad and _equal(result, self._layer):
            self.layers.append(result)
            return result.clone()
        if self.layers and result.numel() == self._wanted_scores.numel():
            flat = result.reshape(len(result), -1) if result.dim() else result
            if _equal(flat, self._wanted_scores):
                self.scores = flat
        return result


def _exact_hardsigmoid(value: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """PyTorch's float64 kernel differentiates with float32's 1/6, which is off by 3e-8."""
    return nn.functional.relu6(value + 3) / 6


_EXACT: dict[Callable[..., Any], Callable[..., Any]] = {nn.functional.hardsigmoid: _exact_hardsigmoid}

# Their backward on the CPU (PyTorch 2.13) takes the gradient of a batch of one for channels-last when its
# strides are, whatever those of the input, and is then wrong by more than its own size.
_BATCH_NORMS: set[Callable[..., Any]] = {nn.functional.batch_norm, torch.batch_norm}

# A constant written in the code is rounded to its dtype, in the capture as well.
_CONSTANTS: set[Callable[..., Any]] = {torch.tensor, torch.as_tensor}


def _in_float64(argument: Any) -> Any:
    """Arguments in float64: a weight is widened while it is used, so that no second copy of all of them stays."""
    if isinstance(argument, torch.Tensor):
        return argument.detach().double() if argument.dtype == torch.float32 else argument
    if isinstance(argument, list | tuple):
        return type(argument)(_in_float64(part) for part in argument)
    if isinstance(argument, dict):
        return {key: _in_float64(part) for key, part in argument.items()}
    return torch.float64 if argument is torch.float32 else argument


def _equal(value: torch.Tensor, wanted: torch.Tensor) -> bool:
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        return False
    with torch._C.DisableTorchFunction():
        return bool((value.detach() - wanted).abs().max() <= 1e-6 * wanted.abs().max())
