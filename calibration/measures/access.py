"""A ``.cam.onnx`` file and a method as the callables that measures take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import cam_results, normalise
from ...runtime.explainer import Explainer
from ...runtime.explanation import class_probabilities
from ...runtime.frame import Frame
from ...runtime.images import open_image
from ...runtime.methods import get_method, make_settings
from ...runtime.preprocess import prepare

__all__ = ["EngineAccess"]


class EngineAccess:
    """One method on one exported network, over ready batches.

    explainer: of the file; it stays the caller's to close. method, settings: as in
    `Explainer.explain`; None for the file's own. Images are float32 (N, C, H, W) here, whatever
    the file's layout. `method` is the method's name, `input` the file's `InputSpec`. Raises
    `MethodError`.
    """

    def __init__(self, explainer: Explainer, method: str | None = None, settings: Any = None) -> None:
        asked = explainer.spec.method
        self.method = asked.name if method is None else method
        if settings is None and self.method == asked.name:
            settings = asked.settings
        options = make_settings(get_method(self.method), settings)
        if getattr(options, "last", False) is None:
            # Not left to the gradients: under noise they would no longer look constant.
            options = dataclasses.replace(options, last=explainer.spec.layer.pooled)
        self.input = explainer.spec.input
        self._explainer = explainer
        self._settings = options
        self._channels_last = self.input.layout == "NHWC"

    def load(self, sources: Iterable[Any]) -> tuple[NDArray[np.float32], list[Frame]]:
        """Photos as images (N, C, H, W), and the frame of each. Raises `ImageError`."""
        prepared = [prepare(open_image(source), self.input) for source in sources]
        tensors = np.stack([item.tensor for item in prepared]).astype(np.float32)
        return (tensors.transpose(0, 3, 1, 2) if self._channels_last else tensors), [item.frame for item in prepared]

    def predict(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Probabilities (N, K): a `Predict`."""
        scores = self._explainer.tensors(self._ready(images)).scores
        return class_probabilities(scores, self._explainer.spec.output.kind)

    def explain(self, images: NDArray[np.floating[Any]], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Maps (N, H, W) in [0, 1] of `classes`; an empty one is zero everywhere: an `Explain`."""
        found = self._explainer.tensors(self._ready(images), [int(index) for index in classes])
        size = (int(images.shape[2]), int(images.shape[3]))
        return np.stack([normalise(heat, size) for heat in self.rule(found.activations, found.gradients)])

    def arrays(
        self, images: NDArray[np.floating[Any]], classes: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Activations and gradients (N, C, h, w) of `classes`: what `GradientNoise` takes."""
        found = self._explainer.tensors(self._ready(images), [int(index) for index in classes])
        return found.activations, found.gradients

    def rule(self, activations: NDArray[Any], gradients: NDArray[Any]) -> NDArray[np.float32]:
        """Maps (N, h, w) on the layer's grid: a `Rule`."""
        return np.stack([one.map for one in cam_results(activations, gradients, self.method, self._settings)])

    def _ready(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        values = images.astype(np.float32, copy=False)
        return values.transpose(0, 2, 3, 1) if self._channels_last else values
