"""A ``.cam.onnx`` file and a method as the callables that measures take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import MethodError, ModelFileError
from ...runtime.explainer import Explainer
from ...runtime.inference import LayerTensors, Tensors
from ...runtime.methods import get_method
from ...runtime.methods.layer_fusion import FileForm, Groupings, form_of, run_rule
from ...runtime.photos.frame import Frame
from ...runtime.photos.preprocess import as_input

__all__ = ["EngineAccess"]


class EngineAccess:
    """One method on one exported network, over ready batches.

    explainer: of the file; it stays the caller's to close. method, settings: as in
    `Explainer.explain`; None for the file's own. Images are float32 (N, C, H, W) here, whatever
    the file's layout, and 0 is the mean colour (`InputSpec.centred`). `method` is the method's name, `input` what such
    images are, `form` the form of its maps (None for methods that have but one). A probe whose tail is missing, and a
    file with a fixed target, is refused here. Raises `MethodError` or `ModelFileError`.
    """

    def __init__(self, explainer: Explainer, method: str | None = None, settings: Any = None) -> None:
        if explainer.spec.fixed_target is not None:
            raise ModelFileError(
                f"{explainer.path}: has a fixed target, and what is measured asks for other classes too: give the file "
                "that is exported without --fixed-target"
            )
        chosen, self._settings = explainer.resolve_method(method, settings)
        self.method = chosen.name
        self.input = explainer.spec.input.centred
        self._blank = np.array(explainer.spec.input.blank, np.float32)[:, None, None]
        self.form: FileForm | None = form_of(chosen, self._settings, explainer.spec.layers, explainer.spec.fusion)
        self._explainer = explainer
        self._channels_last = self.input.layout == "NHWC"

    def without_contrast(self) -> EngineAccess:
        """The method at contrast 0: itself where there is none.

        What is measured between the maps of two classes is measured so: contrast sets them apart by construction.
        """
        name = get_method(self.method).contrast
        if name is None or not getattr(self._settings, name) or (self.form is not None and not self.form.contrast):
            return self
        return EngineAccess(self._explainer, self.method, replace(self._settings, **{name: 0.0}))

    def load(self, sources: Iterable[Any]) -> tuple[NDArray[np.float32], list[Frame]]:
        """Photos as images (N, C, H, W), and the frame of each. Raises `ImageError`."""
        # Not the photos themselves, which would all stay in memory.
        each = [(one.tensor, one.frame) for one in map(self._explainer.prepare, sources)]
        images = np.stack([tensor for tensor, _ in each]).astype(np.float32)
        images = images.transpose(0, 3, 1, 2) if self._channels_last else images
        return images - self._blank, [frame for _, frame in each]

    def preprocessed(self, images: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Images as preprocessing makes them, whose mean colour is not 0; (N, C, H, W) all the same."""
        return images + self._blank

    def predict(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Probabilities (N, K): a `Predict`."""
        return self._explainer.probabilities(self._ready(images))

    def explain(self, images: NDArray[np.floating[Any]], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Maps (N, H, W) in [0, 1] of `classes`; an empty one is zero everywhere: an `Explain`."""
        return self._explainer.maps(self._ready(images), [int(index) for index in classes], self.method, self._settings)

    def tensors(self, images: NDArray[np.floating[Any]], classes: Iterable[int]) -> Tensors:
        """All that one inference gives for `classes`, -1 for the top class. Raises `EngineError`."""
        return self._explainer.tensors(self._ready(images), [int(index) for index in classes])

    def columns(self, images: NDArray[np.floating[Any]], classes: Sequence[int]) -> tuple[Tensors, ...]:
        """`tensors` for each of some classes, -2 for the second one and so on: of one inference, where the file
        explains so many at once. Raises `EngineError`."""
        return self._explainer.columns(self._ready(images), classes)

    def rule(
        self, layers: Sequence[LayerTensors], groupings: Sequence[Groupings] | None = None
    ) -> list[NDArray[np.float32]]:
        """N maps (h, w) from what an inference gave of every target layer: a `Rule`.

        They are those of `Explainer` before their resize: fused as the file says, and guided by its detail layer.
        groupings: one per image, as `run_on_layers` takes them. Raises `MethodError` for a probe, which needs the
        model.
        """
        spec, method = self._explainer.spec, get_method(self.method)
        if method.kind != "rule":
            raise MethodError(f"method '{self.method}' runs the model again and cannot work from arrays alone")
        rows = range(len(layers[0].activations))
        known: Sequence[Groupings | None] = [None] * len(rows) if groupings is None else groupings
        return [run_rule(method, self._settings, spec.layers, layers, i, spec.fusion, known[i]).map for i in rows]

    def _ready(self, images: NDArray[np.floating[Any]]) -> NDArray[Any]:
        images = self.preprocessed(images)
        return as_input(images.transpose(0, 2, 3, 1) if self._channels_last else images, self.input.dtype)
