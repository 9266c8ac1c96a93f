"""Images to prove a file with, where nobody gave photos: random ones with structure at all scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...runtime.contract.spec import InputSpec

__all__ = ["filled_up", "structured_images", "structured_noise"]

#: Cells per side of the noise that is added up.
_CELLS = (2, 5, 11, 32)


def structured_noise(count: int, channels: int, height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Noise (N, C, H, W) of variance 1 per image: the sum of noises from coarse to single pixels."""
    random = np.random.RandomState(seed)
    total = random.standard_normal((count, channels, height, width))
    for cells in _CELLS:
        noise = random.standard_normal((count, channels, cells, cells))
        total += _enlarge(height, cells) @ noise @ _enlarge(width, cells).T
    return total / total.std(axis=(1, 2, 3), keepdims=True)


def structured_images(spec: InputSpec, count: int, seed: int = 0) -> NDArray[np.floating]:
    """A batch for the input `spec`, in its layout and dtype: 8-bit pictures of noise, normalised as it says.

    So the values lie where a photo's would, whatever the model's units are.
    """
    noise = structured_noise(count, spec.channels, spec.height, spec.width, seed)
    pixels = np.clip(np.rint(127.5 + 55 * noise), 0, 255)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (spec.mean, spec.std))
    x = (pixels * spec.scale - mean) / std
    return np.ascontiguousarray(x if spec.layout == "NCHW" else x.transpose(0, 2, 3, 1), dtype=spec.dtype)


def filled_up(images: NDArray[np.floating], batch: int | None) -> NDArray[np.floating]:
    """As many images as a file with a fixed batch takes: the last one is repeated."""
    missing = -len(images) % (batch or 1)
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images


def _enlarge(size: int, cells: int) -> NDArray[np.float64]:
    """(size, cells): linear interpolation with half-pixel centres, the edge repeated."""
    at = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, cells - 1)
    matrix = np.zeros((size, cells))
    matrix[np.arange(size), low] += 1 - (at - low)
    matrix[np.arange(size), high] += at - low
    return matrix
