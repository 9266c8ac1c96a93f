"""A ``.cam.onnx`` file and a method as the callables that measures take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import cam_results
from ...runtime.errors import MethodError
from ...runtime.explainer import Explainer
from ...runtime.inference import LayerTensors, Tensors
from ...runtime.methods import get_method
from ...runtime.methods.layer_fusion import run_rule
from ...runtime.photos.frame import Frame
from ...runtime.photos.preprocess import as_input

__all__ = ["EngineAccess"]


class EngineAccess:
    """One method on one exported network, over ready batches.

    explainer: of the file; it stays the caller's to close. method, settings: as in
    `Explainer.explain`; None for the file's own. Images are float32 (N, C, H, W) here, whatever
    the file's layout. `method` is the method's name, `input` the file's `InputSpec`. A probe whose
    tail is missing is refused here. Raises `MethodError` or `ModelFileError`.
    """

    def __init__(self, explainer: Explainer, method: str | None = None, settings: Any = None) -> None:
        chosen, self._settings = explainer.resolve_method(method, settings)
        self.method = chosen.name
        self.input = explainer.spec.input
        self._explainer = explainer
        self._channels_last = self.input.layout == "NHWC"

    def load(self, sources: Iterable[Any]) -> tuple[NDArray[np.float32], list[Frame]]:
        """Photos as images (N, C, H, W), and the frame of each. Raises `ImageError`."""
        # Not the photos themselves, which would all stay in memory.
        each = [(one.tensor, one.frame) for one in map(self._explainer.prepare, sources)]
        images = np.stack([tensor for tensor, _ in each]).astype(np.float32)
        return (images.transpose(0, 3, 1, 2) if self._channels_last else images), [frame for _, frame in each]

    def predict(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Probabilities (N, K): a `Predict`."""
        return self._explainer.probabilities(self._ready(images))

    def explain(self, images: NDArray[np.floating[Any]], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Maps (N, H, W) in [0, 1] of `classes`; an empty one is zero everywhere: an `Explain`."""
        return self._explainer.maps(self._ready(images), [int(index) for index in classes], self.method, self._settings)

    def arrays(self, images: NDArray[np.floating[Any]], classes: NDArray[np.int64]) -> tuple[Any, Any]:
        """Activations and gradients (N, C, h, w) of `classes`: what `GradientNoise` takes.

        Of several target layers, two tuples of such arrays.
        """
        layers = self.tensors(images, classes).layers
        activations, gradients = ([getattr(layer, name) for layer in layers] for name in ("activations", "gradients"))
        return (activations[0], gradients[0]) if len(layers) == 1 else (tuple(activations), tuple(gradients))

    def tensors(self, images: NDArray[np.floating[Any]], classes: Iterable[int]) -> Tensors:
        """All that one inference gives for `classes`, -1 for the top class. Raises `EngineError`."""
        return self._explainer.tensors(self._ready(images), [int(index) for index in classes])

    def rule(self, activations: Any, gradients: Any) -> NDArray[np.float32]:
        """Maps (N, h, w) on the layer's grid, from what `arrays` gives: a `Rule`.

        Maps of several layers are fused as the file says. Raises `MethodError` for a probe, which needs the model.
        """
        if not isinstance(activations, tuple):
            return np.stack([one.map for one in cam_results(activations, gradients, self.method, self._settings)])
        spec, method = self._explainer.spec, get_method(self.method)
        if method.kind != "rule":
            raise MethodError(f"method '{self.method}' runs the model again and cannot work from arrays")
        layers = [LayerTensors(*pair) for pair in zip(activations, gradients, strict=True)]
        rows = range(len(activations[0]))
        return np.stack([run_rule(method, self._settings, spec.layers, layers, i, spec.fusion).map for i in rows])

    def _ready(self, images: NDArray[np.floating[Any]]) -> NDArray[Any]:
        return as_input(images.transpose(0, 2, 3, 1) if self._channels_last else images, self.input.dtype)
