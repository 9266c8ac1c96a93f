"""Which layers are asked for, and what each of them adds to the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import LayerError

__all__ = ["Asked", "asked_layers", "for_each_layer", "output_names", "refuse_repeated"]

#: A layer's name, None for the default layer, or a sequence of such.
Asked = str | Sequence[str | None] | None


def asked_layers(layer: Asked) -> list[str | None]:
    """The layers that are asked for, one by one; None stands for the default layer.

    Raises `LayerError` for an empty sequence.

    >>> asked_layers(None), asked_layers("layer4"), asked_layers(["layer4", "layer3"])
    ([None], ['layer4'], ['layer4', 'layer3'])
    """
    if layer is None or isinstance(layer, str):
        return [layer]
    if not layer:
        raise LayerError("no target layer is named: give at least one, or None for the default")
    return list(layer)


def for_each_layer(given: Any, count: int, what: str, single: Callable[[Any], bool]) -> list[Any]:
    """What an option says of each of `count` layers. single: whether `given` speaks of all of them at once.

    Raises `LayerError` when it speaks of more or of fewer.
    """
    parts = [given] * count if given is None or single(given) else list(given)
    if len(parts) != count:
        raise LayerError(f"{len(parts)} {what} for {count} layers: give one for each, None where nothing is to say")
    return parts


def output_names(index: int, activations: str = "cam_activations", gradients: str = "cam_gradients") -> tuple[str, str]:
    """What the outputs of layer `index` are called: the first layer's have no number.

    >>> output_names(0), output_names(1)
    (('cam_activations', 'cam_gradients'), ('cam_activations_1', 'cam_gradients_1'))
    """
    number = f"_{index}" if index else ""
    return activations + number, gradients + number


def refuse_repeated(asked: Sequence[str | None], values: Sequence[str]) -> None:
    """Raise `LayerError` when two of the layers that were asked for are one value.

    values: what the graph calls each of them.
    """
    seen: dict[str, str | None] = {}
    for name, value in zip(asked, values, strict=True):
        if value in seen:
            first, second = (f"'{n}'" if n is not None else "the default layer" for n in (seen[value], name))
            if first == second:
                raise LayerError(f"layer {first} is named twice: name each layer once")
            raise LayerError(f"layers {first} and {second} are the same value, '{value}': name each layer once")
        seen[value] = name
