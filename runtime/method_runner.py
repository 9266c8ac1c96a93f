"""Running a method on what one inference gave: rules, probes, and either of them smoothed or by windows (SESS)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract.spec import CamSpec
from .contrast import difference
from .finished import from_file
from .inference import Inference, Tensors
from .methods import CamResult, Method, Probing
from .methods.layer_fusion import Groupings, own_form, run_rule
from .photos.preprocess import as_input
from .probabilities import class_probabilities
from .sess import Sess, Window, cut_windows
from .smoothing import Smoothing, mean_result
from .tail import Tail
from .timing import timed

__all__ = ["MethodRunner", "Progress", "Work"]

#: Called while a probe or SESS runs: how many runs of the model are done, and how many there will be.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be done with every image."""

    method: Method
    settings: Any
    smoothing: Smoothing | None = None
    progress: Progress | None = None
    sess: Sess | None = None


class MethodRunner:
    """Runs methods with one model. tail: gives its tail, opened when it is first asked for.

    Rules are run on every target layer, and their maps fused; probes work with the first layer.
    batch: how many changed inputs a probe makes at a time.
    """

    def __init__(self, spec: CamSpec, inference: Inference, tail: Callable[[], Tail], batch: int) -> None:
        self._input, self._layers, self._fusion, self._spec = spec.input, spec.layers, spec.fusion, spec
        self._output = spec.output
        #: (C, 1, 1), the x of the mean colour; None where that is 0.
        self._blank = np.array(spec.input.blank, np.float32)[:, None, None] if any(spec.input.blank) else None
        self._inference, self._tail = inference, tail
        self._batch = max(batch, inference.info.batch or 1)

    def run(
        self,
        work: Work,
        tensor: NDArray[Any],
        raw: Tensors,
        index: int,
        times: dict[str, float],
        groupings: Groupings | None = None,
    ) -> CamResult:
        """The map of image `index` of `raw`, whose ready tensor is `tensor`; adds to `times` what it took.

        groupings: of this image, for another class's map of the same method.
        """
        if raw.finished is not None:
            return from_file(raw.finished, index, own_form(self._spec), int(raw.classes[index]))
        if work.sess is not None:
            return self._by_windows(work, work.sess, tensor, raw, index, times)
        if work.smoothing is None:
            with timed(times, "method"):
                return self._once(work, tensor, raw, index, work.progress, groupings)
        copies = work.smoothing.noisy(tensor)
        count = len(copies)
        with timed(times, "inference"):
            noisy = self._like(raw, index, copies)
        with timed(times, "method"):
            return mean_result(
                [self._once(work, copy, noisy, i, _part(work.progress, i, count)) for i, copy in enumerate(copies)]
            )

    def _like(self, raw: Tensors, index: int, images: NDArray[Any]) -> Tensors:
        """What `images` give of the class, or of the difference of classes, that `raw` has of image `index`."""
        count, frames = len(images), raw.frames[:1] * len(images)
        if raw.against is None:
            return self._inference.tensors(images, np.repeat(raw.classes[index], count), frames)
        pair = np.repeat(np.array([[raw.classes[index], raw.against[index]]]), count, axis=0)
        return difference(*self._inference.columns(images, pair, frames))

    def _by_windows(
        self, work: Work, sess: Sess, tensor: NDArray[Any], raw: Tensors, index: int, times: dict[str, float]
    ) -> CamResult:
        image = self._planes(tensor)
        windows = sess.windows((image.shape[1], image.shape[2]))
        target = int(raw.classes[index])
        if sess.keep < 1:
            with timed(times, "inference"):
                asked = [
                    self._inference.probabilities(self._ready(cut_windows(image, some)))[:, target]
                    for some in _chunks(windows, self._batch)
                ]
            windows = [windows[i] for i in sess.best(np.concatenate(asked))]
        results: list[CamResult] = []
        weights: list[NDArray[np.float32]] = []
        for some in _chunks(windows, self._batch):
            with timed(times, "inference"):
                images = self._ready(cut_windows(image, some))
                found = self._inference.tensors(images, np.full(len(some), target), raw.frames[:1] * len(some))
            weights.append(class_probabilities(found.scores, self._output.kind)[:, target])
            with timed(times, "method"):
                for i, one in enumerate(images):
                    progress = _part(work.progress, len(results), len(windows))
                    results.append(self._once(work, one, found, i, progress))
                    if work.progress is not None and work.method.kind == "rule":
                        work.progress(len(results), len(windows))
        with timed(times, "method"):
            return sess.fuse(windows, results, np.concatenate(weights), (image.shape[1], image.shape[2]))

    def _planes(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """A ready tensor as float32 (C, H, W) in which 0 is the mean colour."""
        planes = (tensor.transpose(2, 0, 1) if self._input.layout == "NHWC" else tensor).astype(np.float32)
        return planes if self._blank is None else planes - self._blank

    def _ready(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Images (N, C, H, W), as `_planes` gives them, in the model's own layout and type."""
        images = images if self._blank is None else images + self._blank
        images = images.transpose(0, 2, 3, 1) if self._input.layout == "NHWC" else images
        return as_input(images, self._input.dtype)

    def _once(
        self,
        work: Work,
        tensor: NDArray[Any],
        raw: Tensors,
        index: int,
        progress: Progress | None,
        groupings: Groupings | None = None,
    ) -> CamResult:
        if work.method.kind == "probe":
            return work.method.run(self._probing(tensor, raw, index, progress), work.settings)
        return run_rule(work.method, work.settings, self._layers, raw.layers, index, self._fusion, groupings)

    def _probing(self, tensor: NDArray[Any], raw: Tensors, index: int, progress: Progress | None) -> Probing:
        def gradients_of(classes: NDArray[np.int64]) -> NDArray[np.float32]:
            copies = np.repeat(tensor[None], len(classes), axis=0)
            return self._inference.tensors(copies, classes, raw.frames[:1] * len(classes)).gradients

        return Probing(
            activations=raw.activations[index],
            gradients=raw.gradients[index],
            image=self._planes(tensor),
            target=int(raw.classes[index]),
            scores=lambda images: self._inference.scores(self._ready(images)),
            probabilities=lambda images: self._inference.probabilities(self._ready(images)),
            tail=lambda activations: self._tail().logits(activations, tensor),
            independent=self._output.kind in ("sigmoid", "binary"),
            partial=self._output.partial,
            batch=self._batch,
            logits=self._logits(raw, index),
            gradients_of=gradients_of,
            progress=progress,
        )

    def _logits(self, raw: Tensors, index: int) -> NDArray[np.float32] | None:
        """Those of an image, up to a constant; None where its classes are no rivals, or the file does not tell."""
        if self._output.kind not in ("logits", "softmax"):
            return None
        if raw.logits is not None:
            return raw.logits[index]
        # A softmax takes nothing away but a constant; one that was rounded or chosen from says too little.
        return None if self._output.partial else np.log(np.maximum(raw.scores[index], np.finfo(np.float32).tiny))


def _chunks(windows: list[Window], size: int) -> list[list[Window]]:
    return [windows[start : start + size] for start in range(0, len(windows), size)]


def _part(progress: Progress | None, index: int, count: int) -> Progress | None:
    """`progress` of part `index` of `count`, told as progress of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(index * total + done, count * total)
