"""One class of an image set against another: the difference of their logits is explained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract.spec import CamSpec
from .errors import MethodError, TargetError
from .inference import Tensors
from .methods import Method
from .targets import Target, resolve_ranked

__all__ = ["check_differ", "difference", "rival_of", "without_contrast"]


def rival_of(against: Target, path: Path, spec: CamSpec, method: Method, by_windows: bool) -> int | None:
    """The class that others are set against.

    Args:
        against: What `resolve_ranked` takes, or None for no such class.
        path: Of the file, for messages.
        spec: Of the file.
        method: The one that makes the maps.
        by_windows: Whether maps of windows are put together (SESS).

    Returns:
        Its index, -1, -2, ... where the order of the scores decides, or None.

    Raises:
        MethodError: The file, its classes or the method know no difference of two classes.
        TargetError: There is no such class.
    """
    if against is None:
        return None
    why = None
    if spec.fused is not None:
        why = f"{path} is fused and gives out finished maps of single classes; export the model without --fused"
    elif spec.output.kind == "regression":
        why = "the values of a regression do not exclude each other; leave it out"
    elif method.kind == "probe":
        why = f"method '{method.name}' runs the model again for one class; take a rule, such as cfcam or gradcam"
    elif by_windows:
        why = "sess weighs windows by the probability of one class; leave one of them out"
    if why is not None:
        raise MethodError(f"against: {why}")
    try:
        return resolve_ranked(against, spec.output)
    except TargetError as error:
        raise TargetError(f"against: {error}") from error


def check_differ(classes: NDArray[np.int64], rival: int) -> None:
    """Raise `TargetError` where one of `classes` is asked for as its own rival."""
    if (classes == rival).any():
        name = f"class {rival}" if rival >= 0 else "the class of the highest score" if rival == -1 else f"rank {-rival}"
        raise TargetError(f"against: {name} is the one that is explained: name another")


def without_contrast(method: Method, settings: Any) -> Any:
    """The settings by which a class is set against one other: none that sets it against all others."""
    return settings if method.contrast is None else replace(settings, **{method.contrast: 0.0})


def difference(first: Tensors, second: Tensors) -> Tensors:
    """What explains one class of each image against another: the gradients of the difference of their logits.

    Args:
        first: Of the classes that are explained.
        second: The same images, and the classes that they are set against.

    Returns:
        `first` with the gradients of `second` taken off. The rivals' gradient is left out: it is that of all others.
    """
    layers = tuple(
        replace(one, gradients=one.gradients - other.gradients, rivals=None)
        for one, other in zip(first.layers, second.layers, strict=True)
    )
    return replace(first, layers=layers, against=second.classes)
