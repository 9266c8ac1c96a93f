"""`Probing`: what a probe may do with the model, for one image.

Rules see activations and gradients; probes may also run the whole model on changed images, or
its tail on changed activations. They never see an engine, a file or a layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MethodError
from ..probabilities import class_probabilities
from .base import FloatArray

__all__ = ["Probing", "Run"]

#: Images (N, C, H, W), or activations (N, C, h, w) -> one number per class, float32 (N, K).
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Probing:
    """One image, its class, and the model to ask about it.

    The callables raise `EngineError`.

    Attributes:
        activations: Float32 (C, h, w) at the target layer.
        gradients: Float32 (C, h, w) there.
        image: Float32 (C, H, W), preprocessed, channels first whatever the model's layout; 0 is the mean colour.
        target: The class.
        scores: From images (N, C, H, W) to (N, K): the logits if the file returns them, or else what it returns, which
            is then probabilities.
        probabilities: From images to probabilities.
        tail: From activations (N, C, h, w) to logits.
        independent: Each logit has a sigmoid of its own, instead of a softmax over all.
        partial: The model's probabilities are not those of its logits alone (`OutputSpec`).
        batch: How many images or activations are made at a time.
        logits: Float32 (K,) of the image itself, up to a constant that is the same for all classes; None where the
            classes do not exclude each other, or the file does not tell.
        gradients_of: From classes (N,) to the gradients of their logits at the target layer, float32 (N, C, h, w), in
            one inference of N copies of the image; None where whoever made this does not offer it.
        progress: Called with how many runs are done, and how many there will be.
    """

    activations: NDArray[np.float32]
    gradients: NDArray[np.float32]
    image: NDArray[np.float32]
    target: int
    scores: Run
    probabilities: Run
    tail: Run
    independent: bool = False
    partial: bool = False
    batch: int = 16
    logits: NDArray[np.float32] | None = None
    gradients_of: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    progress: Callable[[int, int], None] | None = None

    def tail_probabilities(self, activations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities by the tail.

        Args:
            activations: Float32 (N, C, h, w).

        Returns:
            Float32 (N, K).

        Raises:
            MethodError: The model's probabilities are not those of its logits alone.
        """
        if self.partial:
            raise MethodError(
                "the model rounds, chooses, joins or averages probabilities behind its softmax, which the tail "
                "has not: take a method that asks the whole model, such as scorecam"
            )
        return class_probabilities(self.tail(activations), "binary" if self.independent else "logits")

    def sweep(self, run: Run, count: int, make: Callable[[slice], FloatArray]) -> NDArray[np.float64]:
        """The class's number for each of many changed inputs.

        Args:
            run: `scores`, `probabilities` or `tail`.
            count: How many inputs.
            make: Gives the inputs of a slice of 0 to `count`; at most `batch` of them exist at a time.

        Returns:
            Float64 (count,).
        """
        found = np.empty(count)
        for start in range(0, count, self.batch):
            part = slice(start, min(start + self.batch, count))
            made: NDArray[Any] = make(part)
            found[part] = run(made.astype(np.float32, copy=False))[:, self.target]
            if self.progress is not None:
                self.progress(part.stop, count)
        return found
