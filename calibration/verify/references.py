"""What the figures are held against: the same photo with other pixels nearby, and a map of nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.contract.spec import InputSpec
from ...runtime.methods.cfcam.filtering import gaussian
from ...runtime.photos.preprocess import as_input

__all__ = ["jittered", "noise_map"]


def jittered(tensor: NDArray[Any], spec: InputSpec, seed: int) -> NDArray[Any]:
    """A ready tensor, in the model's layout, with -1, 0 or 1 grey level (of 255) added to every value.

    Less than any camera's noise, and nothing that the network's strides could turn into a shift of the map.
    """
    levels = np.random.default_rng([seed, 1]).integers(-1, 2, tensor.shape)
    step = np.asarray(spec.std, np.float64) ** -1 * spec.scale
    if spec.layout == "NCHW":
        step = step[:, None, None]
    return as_input(tensor + levels * step, tensor.dtype)


def noise_map(grid: tuple[int, int], size: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """float32 (H, W) in [0, 1]: uniform noise on `grid`, blurred by one cell, scaled up as a layer's map is."""
    values = np.random.default_rng([seed, 2]).random(grid, np.float32)
    blurred = gaussian(values[None], 1.0)[0]
    return normalise(blurred - blurred.min(), size)
