"""Random networks in which something happens: calibrated on photos before they are used.

A network fresh from its constructor is a poor test. Batch norms that never saw data let
activations die (logits of 1e-9), layer scales start at 1e-6 and gates at zero, so that
whole branches contribute nothing, and heads of zeros give no gradient at all: a wrong
graph would pass. `calibrate` makes every part count; `assert_spread` checks that it worked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared_data import shared_path
from torch import nn

__all__ = ["assert_spread", "calibrate", "photo_batch"]

# Parameters below this are "switched off at the start" (1e-6, 1e-5 and 0 in the wild).
_TINY = 1e-2

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def photo_batch(count: int = 8, size: int | tuple[int, int] = 224, channels: int = 3) -> torch.Tensor:
    """Crops of the shared photos, (count, channels, H, W) float32, ImageNet's normalisation."""
    from PIL import Image

    height, width = (size, size) if isinstance(size, int) else size
    files = sorted(shared_path("data/photos").glob("*.jpg"))
    crops = []
    for index in range(count):
        with Image.open(files[index % len(files)]) as photo:
            turn = index // len(files)  # a second round takes another part of each photo
            w, h = photo.size
            side = min(w, h) * (1.0, 0.7, 0.5)[turn % 3]
            left, top = (w - side) * (0.5, 0.2, 0.8)[turn % 3], (h - side) * (0.5, 0.8, 0.2)[turn % 3]
            box = (left, top, left + side, top + side)
            crop = photo.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, box=box)
        crops.append(torch.from_numpy(np.asarray(crop, np.float32) / 255).permute(2, 0, 1))
    batch = (torch.stack(crops) - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]
    return batch.repeat(1, -(-channels // 3), 1, 1)[:, :channels].contiguous()


def calibrate(module: nn.Module, images: torch.Tensor, seed: int = 0) -> nn.Module:
    """Give `module` parameters with which activations, logits and gradients spread; returns it.

    images: (N, C, H, W), preprocessed, at least 4 of them. In place, and left in eval mode:

    1. Parameters that start (almost) at zero are drawn anew: layer scales and gates from
       0.5 to 1, weights by their fan-in.
    2. Normalisations get weights from 0.5 to 1.5 and biases from -0.2 to 0.6, so that no
       two channels are alike.
    3. `images` run through once. Batch norms take their statistics from it; convolutions
       and linear layers are scaled and shifted, each at its first call, so that every
       channel has mean 0 and variance 1 over the batch and what follows sees that
       (layers behind a pooling are only scaled, as a whole).
    """
    if len(images) < 4:
        raise ValueError(f"calibration needs at least 4 images, got {len(images)}")
    generator = torch.Generator().manual_seed(seed)
    module.eval()
    with torch.no_grad():
        for child in module.modules():
            _wake(child, generator)
        _adjust(module, images)
    return module


def assert_spread(
    logits: NDArray[Any] | torch.Tensor,
    activations: NDArray[Any] | torch.Tensor,
    gradients: NDArray[Any] | torch.Tensor,
    least: float = 1e-2,
) -> None:
    """Fail unless the three differ between images, classes, channels and cells.

    logits (N, K), activations and gradients (N, C, H, W), N >= 2, gradients of classes that
    are not all the same. least: relative difference that counts, far above any tolerance.
    """
    scores, values, slopes = (np.asarray(v, np.float64) for v in (logits, activations, gradients))
    for name, array in (("logits", scores), ("activations", values), ("gradients", slopes)):
        assert np.isfinite(array).all(), f"{name}: not finite"
        assert (np.abs(array.reshape(len(array), -1)).max(1) > 0).all(), f"{name}: zero for a whole image"
        assert _distance(array) > least, f"{name}: the same for every image"
    if scores.shape[1] > 1:
        assert scores.std(1).min() > least * np.abs(scores).max(), "logits: the same for every class"
    for name, array in (("activations", values), ("gradients", slopes)):
        channels = array.mean((2, 3))
        size = np.sqrt(np.square(channels).mean(1))  # not the maximum: one channel may stand far out
        assert (channels.std(1) / size).min() > least, f"{name}: the same for every channel"
    cells = values.std((2, 3)).max(1)
    assert cells.min() > least * np.abs(values).max(), "activations: the same in every cell"


def _distance(array: NDArray[Any]) -> float:
    """Median over images of the relative distance to the image that differs most from it."""
    flat = array.reshape(len(array), -1)
    sizes = np.linalg.norm(flat, axis=1)
    largest = [np.linalg.norm(flat - row, axis=1).max() / size for row, size in zip(flat, sizes, strict=True)]
    return float(np.median(largest))


def _wake(child: nn.Module, generator: torch.Generator) -> None:
    """Cases 1 and 2 for the parameters that `child` itself holds."""

    def uniform(parameter: torch.Tensor, low: float, high: float) -> None:
        parameter.copy_(torch.rand(parameter.shape, generator=generator) * (high - low) + low)

    norm = "norm" in type(child).__name__.lower()
    for name, parameter in child.named_parameters(recurse=False):
        if norm and parameter.dim() == 1:
            low, high = (-0.2, 0.6) if "bias" in name else (0.5, 1.5)
            uniform(parameter, low, high)
        elif parameter.numel() and float(parameter.abs().max()) < _TINY and "bias" not in name:
            if isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d):
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
            elif parameter.squeeze().dim() <= 1 and "token" not in name:
                uniform(parameter, 0.5, 1.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        elif parameter.dim() == 2 and "bias" in name and float(parameter.abs().max()) < 0.2:
            # Tables of relative positions: without contrast they change nothing.
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def _adjust(module: nn.Module, images: torch.Tensor) -> None:
    """Case 3: one forward pass in which every layer is set before the next one runs."""
    seen: set[nn.Module] = set()
    handles = []
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]

    def settle(layer: nn.Module, _: Any, result: torch.Tensor) -> torch.Tensor | None:
        if layer in seen:
            return None
        seen.add(layer)
        axis = -1 if isinstance(layer, nn.Linear) else 1
        others = [d for d in range(result.dim()) if d != axis % result.dim()]
        if result.numel() // result.shape[axis] < 2:
            return None
        mean, deviation = result.mean(others), result.std(others)
        if result.numel() == len(result) * result.shape[axis]:
            # One cell per image, behind a pooling: random features are nearly the same for
            # every image there, and to blow up the little that differs would blow up
            # float32's rounding with it. One scale for all channels, most of the mean stays.
            deviation = (result.std() + 1e-12).expand_as(deviation)
            mean = mean * 0.5
        # A channel that hardly varies is not blown up: that would only amplify rounding.
        deviation = deviation.clamp_min(1e-3 * float(result.abs().max()) + 1e-12)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, torch.Tensor)
        weight.div_(deviation.reshape(-1, *[1] * (weight.dim() - 1)))
        shape = [1] * result.dim()
        shape[axis] = -1
        if isinstance(bias, torch.Tensor):
            bias.sub_(mean).div_(deviation)
            result = result - mean.reshape(shape)
        return result / deviation.reshape(shape)

    # Subclasses may use their weight in another way (standardised, for instance).
    plain = {nn.Linear, nn.Conv1d, nn.Conv2d}
    for child in module.modules():
        if type(child) in plain or type(child).__name__ == "Conv2dSame":
            handles.append(child.register_forward_hook(settle))
    try:
        for norm in norms:
            norm.momentum = 1.0
            norm.training = True
        module(images)
    finally:
        for handle in handles:
            handle.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.training = False
