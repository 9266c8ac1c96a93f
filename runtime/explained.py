"""From a method's map to an `Explanation`: what is known about the image, its class and how the map was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract.spec import CamSpec, LayerSpec
from .explanation import Explanation
from .inference import LayerTensors, Tensors
from .method_runner import Work
from .methods import CamResult
from .methods.layer_fusion import fused_grid
from .photos.preprocess import Prepared
from .probabilities import class_probabilities

__all__ = ["explanation_of"]

_TOP = 5


def explanation_of(
    spec: CamSpec,
    layers: Sequence[LayerSpec],
    item: Prepared,
    raw: Tensors,
    index: int,
    work: Work,
    result: CamResult,
    heat: NDArray[np.float32],
    times_ms: dict[str, float],
    provider: str,
) -> Explanation:
    """What is known about image `index` of `raw`.

    layers: those that the method worked with. result: its map, and heat: the same at the input's size.
    """
    target, values = int(raw.classes[index]), spec.output.values
    probabilities = np.zeros(0, np.float32)
    if not values:
        probabilities = class_probabilities(raw.scores[index], spec.output.kind)
    best = np.argsort(-probabilities, kind="stable")[:_TOP]
    is_guided = result.form is not None and result.form.guided
    detail = layers[0].detail if is_guided else None
    settings = work.settings
    other = None if raw.against is None else int(raw.against[index])
    reason = result.empty or (None if result.map.max() > 0 else "the map is zero everywhere")
    return Explanation(
        map=heat,
        target=target,
        label=spec.output.label(target),
        probability=None if values else float(probabilities[target]),
        probabilities=probabilities,
        logits=None if raw.logits is None else raw.logits[index],
        top=[(int(i), spec.output.label(int(i)), float(probabilities[i])) for i in best],
        frame=item.frame,
        photo=item.photo,
        grid=_grid(raw.layers[: len(layers)], is_guided) if raw.layers else _stated_grid(layers[0], is_guided),
        method=work.method.name,
        settings=_as_mapping(settings),
        reason="the class is the one that it is set against" if other == target else reason,
        counts=_counts(raw, index, result),
        times_ms=times_ms,
        source=item.source,
        notes=item.notes,
        layer=", ".join(layer.name for layer in layers),
        fusion=(work.method.fusion or spec.fusion) if len(layers) > 1 else None,
        provider=provider,
        smoothing=work.smoothing,
        sess=work.sess,
        form=result.form,
        detail=None if detail is None else detail.name,
        value=float(raw.scores[index][target % values]) if values else None,
        unit=spec.output.unit,
        against=other,
        against_label=None if other is None else spec.output.label(other),
    )


def _as_mapping(settings: Any) -> dict[str, Any]:
    """A method's settings by name; nothing of a method without settings."""
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return {}
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    # Copying numbers and words one by one takes longer than resizing the map.
    plain = all(value is None or isinstance(value, int | float | str) for value in values.values())
    return values if plain else dataclasses.asdict(settings)


def _counts(raw: Tensors, index: int, result: CamResult) -> dict[str, int] | None:
    if raw.finished is not None:
        return raw.finished.counts_of(index)
    return None if result.grouping is None else result.grouping.counts()


def _stated_grid(layer: LayerSpec, is_guided: bool) -> tuple[int, int]:
    """The grid of what a map was made of, where the file gives the map alone."""
    return layer.detail.grid if is_guided and layer.detail is not None else layer.grid


def _grid(layers: Sequence[LayerTensors], is_guided: bool) -> tuple[int, int]:
    """The finest grid of what a map was made of."""
    finer = [layers[0].detail] if layers[0].detail is not None and is_guided else []
    return fused_grid([values.shape[2:] for values in (*finer, *(layer.activations for layer in layers))])
