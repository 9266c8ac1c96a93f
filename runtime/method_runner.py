"""Running a method on what one inference gave: rules, probes, and either of them smoothed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract.spec import CamSpec
from .inference import Inference, Tensors
from .methods import CamResult, Method, Probing
from .methods.layer_fusion import run_rule
from .photos.preprocess import as_input
from .smoothing import Smoothing, mean_result
from .tail import Tail
from .timing import timed

__all__ = ["MethodRunner", "Progress", "Work"]

#: Called while a probe runs: how many runs of the model are done, and how many there will be.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be done with every image."""

    method: Method
    settings: Any
    smoothing: Smoothing | None = None
    progress: Progress | None = None


class MethodRunner:
    """Runs methods with one model. tail: gives its tail, opened when it is first asked for.

    Rules are run on every target layer, and their maps fused; probes work with the first layer.
    batch: how many changed inputs a probe makes at a time.
    """

    def __init__(self, spec: CamSpec, inference: Inference, tail: Callable[[], Tail], batch: int) -> None:
        self._input, self._layers, self._fusion = spec.input, spec.layers, spec.fusion
        self._partial = spec.output.partial
        self._independent = spec.output.kind in ("sigmoid", "binary")
        self._inference, self._tail = inference, tail
        self._batch = max(batch, inference.info.batch or 1)

    def run(self, work: Work, tensor: NDArray[Any], raw: Tensors, index: int, times: dict[str, float]) -> CamResult:
        """The map of image `index` of `raw`, whose ready tensor is `tensor`; adds to `times` what it took."""
        if work.smoothing is None:
            with timed(times, "method"):
                return self._once(work, tensor, raw, index, work.progress)
        copies = work.smoothing.noisy(tensor)
        count = len(copies)
        with timed(times, "inference"):
            noisy = self._inference.tensors(copies, np.repeat(raw.classes[index], count), raw.frames[:1] * count)
        with timed(times, "method"):
            return mean_result(
                [self._once(work, copy, noisy, i, _part(work.progress, i, count)) for i, copy in enumerate(copies)]
            )

    def _once(self, work: Work, tensor: NDArray[Any], raw: Tensors, index: int, progress: Progress | None) -> CamResult:
        if work.method.kind == "probe":
            return work.method.run(self._probing(tensor, raw, index, progress), work.settings)
        return run_rule(work.method, work.settings, self._layers, raw.layers, index, self._fusion)

    def _probing(self, tensor: NDArray[Any], raw: Tensors, index: int, progress: Progress | None) -> Probing:
        channels_last = self._input.layout == "NHWC"

        def ready(images: NDArray[np.float32]) -> NDArray[Any]:
            images = images.transpose(0, 2, 3, 1) if channels_last else images
            return as_input(images, self._input.dtype)

        return Probing(
            activations=raw.activations[index],
            gradients=raw.gradients[index],
            image=(tensor.transpose(2, 0, 1) if channels_last else tensor).astype(np.float32),
            target=int(raw.classes[index]),
            scores=lambda images: self._inference.scores(ready(images)),
            probabilities=lambda images: self._inference.probabilities(ready(images)),
            tail=lambda activations: self._tail().logits(activations, tensor),
            independent=self._independent,
            partial=self._partial,
            batch=self._batch,
            progress=progress,
        )


def _part(progress: Progress | None, index: int, count: int) -> Progress | None:
    """`progress` of part `index` of `count`, told as progress of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(index * total + done, count * total)
