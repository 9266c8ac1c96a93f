"""Maps from arrays: for people who have activations and gradients from their own engine.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> activations = np.abs(rng.normal(size=(2, 8, 7, 7))).astype(np.float32)
>>> gradients = rng.normal(size=(2, 8, 7, 7)).astype(np.float32)
>>> cam_map(activations, gradients, method="hirescam", size=224).shape
(2, 224, 224)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ArrayError, MethodError, one_line
from .methods import CamResult, get_method, make_settings
from .methods.layer_fusion import check_grid
from .methods.numerics.resizing import resize
from .shown import shown_value

__all__ = ["EmptyMapWarning", "cam_map", "cam_results", "normalise"]

#: Pixels along a side of a picture.
_LONGEST = 32_768
_FLOATS = (np.float16, np.float32, np.float64)


class EmptyMapWarning(UserWarning):
    """A map that `cam_map` returned is zero everywhere and means nothing; the message says why."""


def cam_map(
    activations: ArrayLike,
    gradients: ArrayLike,
    method: str = "cfcam",
    settings: Any = None,
    size: int | Sequence[int] | None = None,
    *,
    detail: ArrayLike | None = None,
    rivals: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Maps of activations and gradients that come from anywhere.

    An empty map stays zero everywhere and is announced by an `EmptyMapWarning`; `cam_results` gives the reason as data.

    Args:
        activations: Float16, float32 or float64 of shape (N, C, H, W), or (C, H, W) for one image.
        gradients: Of the target class's score with respect to the activations, in the same shape.
        method: A name from ``method_names("rule")``.
        settings: None for the defaults, a mapping, or the method's settings object.
        size: Side or (height, width) in pixels to resize to; None keeps the layer's grid.
        detail: Activations (N, D, H', W') of a finer layer, for methods that take it (`cfcam`).
        rivals: The gradient of the logsumexp of the other classes' logits, (N, C, 1, 1) or as the gradients, for
            methods that take it.

    Returns:
        Float32 (N, H, W) in [0, 1], one map per image.

    Raises:
        ArrayError: The arrays have another shape or type, or non-finite values.
        MethodError: There is no such method or setting, the method runs the model again, or has no use for `detail` or
            `rivals`.
    """
    results = cam_results(activations, gradients, method, settings, detail=detail, rivals=rivals)
    for index, result in enumerate(results):
        if result.empty:
            warnings.warn(f"map {index} of {len(results)} is empty: {result.empty}", EmptyMapWarning, stacklevel=2)
    return np.stack([normalise(result.map, size) for result in results])


def cam_results(
    activations: ArrayLike,
    gradients: ArrayLike,
    method: str = "cfcam",
    settings: Any = None,
    *,
    detail: ArrayLike | None = None,
    rivals: ArrayLike | None = None,
) -> list[CamResult]:
    """What `method` says about each image: map on the layer's grid, grouping, why it is empty.

    Args:
        activations: As in `cam_map`.
        gradients: As in `cam_map`.
        method: As in `cam_map`.
        settings: As in `cam_map`.
        detail: As in `cam_map`.
        rivals: As in `cam_map`.

    Returns:
        N results.

    Raises:
        ArrayError: The arrays have another shape or type, or non-finite values.
        MethodError: There is no such method or setting, or the method runs the model again.
    """
    chosen = get_method(method)
    if chosen.kind != "rule":
        raise MethodError(f"method '{method}' runs the model again and cannot work from arrays alone: use Explainer")
    if chosen.fusion is not None:
        raise MethodError(
            f"method '{method}' makes one map of several layers' maps: use Explainer, and a file with several"
        )
    values = make_settings(chosen, settings)
    a = _checked("activations", activations)
    g = _checked("gradients", gradients)
    if a.shape != g.shape:
        raise ArrayError(f"gradients: expected the shape of the activations, {a.shape}, got {g.shape}")
    if a.ndim == 3:
        a, g = a[None], g[None]
    check_grid(chosen, (a.shape[2], a.shape[3]), "this one")
    more = {
        name: _beside(name, array, a, chosen.takes_detail, method)
        for name, array in (("detail", detail), ("rivals", rivals))
        if array is not None
    }
    return [
        chosen.run(one, slope, values, **{name: array[i] for name, array in more.items()})
        for i, (one, slope) in enumerate(zip(a, g, strict=True))
    ]


def _beside(name: str, array: ArrayLike, activations: NDArray[Any], taken: bool, method: str) -> NDArray[Any]:
    """`detail` or `rivals`, checked against the activations (N, C, H, W)."""
    if not taken:
        raise MethodError(f"method '{method}' has no use for {name}: leave it out, or take method 'cfcam'")
    values = _checked(name, array)
    values = values[None] if values.ndim == 3 else values
    count, channels, height, width = activations.shape
    if len(values) != count:
        raise ArrayError(f"{name}: expected one for each of {count} images, got shape {values.shape}")
    if name == "rivals" and values.shape[1:] not in ((channels, 1, 1), (channels, height, width)):
        raise ArrayError(f"rivals: expected ({count}, {channels}, 1, 1), got {values.shape}")
    if name == "detail" and (values.shape[2] < height or values.shape[3] < width):
        raise ArrayError(
            f"detail: expected a grid no coarser than that of the activations, {height}x{width}, got "
            f"{values.shape[2]}x{values.shape[3]}"
        )
    return values


def normalise(grid_map: ArrayLike, size: int | Sequence[int] | None = None) -> NDArray[np.float32]:
    """Resize a map and divide it by its maximum. A map that is zero everywhere stays so.

    The resize is bilinear with half-pixel centres, and averages where it shrinks. The input is not written to.

    Args:
        grid_map: Float (H, W), finite and not negative.
        size: Side or (height, width) in pixels; None keeps the grid.

    Returns:
        Float32 (H, W) in [0, 1].

    Raises:
        ArrayError: The map or the size is not of that kind.
    """
    values = _array("map", grid_map)
    if values.ndim != 2 or 0 in values.shape or values.dtype not in _FLOATS:
        raise ArrayError(f"map: expected a float array (H, W), got {values.dtype} of shape {values.shape}")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ArrayError("map: expected finite values that are not negative")
    height, width = values.shape if size is None else _size(size)
    top = values.max()
    if top == 0:
        return np.zeros((height, width), np.float32)
    # Dividing first keeps the resize away from the ends of float32.
    scaled = (values / top).astype(np.float32)
    if scaled.shape != (height, width):
        if height >= scaled.shape[0] and width >= scaled.shape[1]:
            scaled = resize(scaled[None], (height, width))[0]
        else:
            from PIL import Image

            scaled = np.asarray(Image.fromarray(scaled).resize((width, height), Image.Resampling.BILINEAR))
        scaled = scaled / scaled.max()
    return np.clip(scaled, 0, 1)


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int | np.integer) else tuple(size) if isinstance(size, Sequence) else ()
    whole = all(
        isinstance(side, int | np.integer) and not isinstance(side, bool) and 0 < side <= _LONGEST for side in pair
    )
    if len(pair) != 2 or not whole:
        raise ArrayError(
            f"size: expected a side or (height, width) in pixels, 1 to {_LONGEST}, got {shown_value(size)}"
        )
    return int(pair[0]), int(pair[1])


def _array(name: str, array: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(array)
    except Exception as error:  # whatever the other library's array says about itself
        raise ArrayError(f"{name}: cannot be read as a numpy array ({one_line(error)})") from error


def _checked(name: str, array: ArrayLike) -> NDArray[np.floating[Any]]:
    values = _array(name, array)
    if values.ndim not in (3, 4):
        raise ArrayError(f"{name}: expected (N, C, H, W) or (C, H, W), got shape {values.shape}")
    if values.dtype not in _FLOATS:
        raise ArrayError(f"{name}: expected float16, float32 or float64, got {values.dtype}: convert with .astype()")
    if 0 in values.shape:
        raise ArrayError(f"{name}: expected no dimension of size 0, got shape {values.shape}")
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.argwhere(~finite)
        first = tuple(map(int, bad[0]))
        axes = "n, c, h, w" if values.ndim == 4 else "c, h, w"
        raise ArrayError(
            f"{name}: {len(bad)} of {values.size} values are NaN or infinite, the first is "
            f"{values[first]} at ({axes}) = {first}"
        )
    return values
