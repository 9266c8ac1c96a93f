"""`Probing` over a small PyTorch network or over a function, for tests of the probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cfcam.runtime.methods import Probing
from cfcam.runtime.probabilities import class_probabilities
from numpy.typing import NDArray

__all__ = ["by_torch", "linear", "of_tail", "some_activations"]


def by_torch(front: Any, tail: Any, image: Any, target: int, **options: Any) -> Probing:
    """A probing of ``tail(front(x))``; image: a tensor (1, C, H, W)."""
    import torch

    def scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return tail(front(torch.from_numpy(images))).numpy()

    def logits(activations: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return tail(torch.from_numpy(activations)).numpy()

    a = front(image).detach().requires_grad_()

    def gradients_of(classes: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([torch.autograd.grad(tail(a)[0, int(one)], a)[0].numpy()[0] for one in classes])

    return Probing(
        activations=a.detach().numpy()[0],
        gradients=gradients_of(np.array([target]))[0],
        image=image.numpy()[0],
        target=target,
        scores=scores,
        probabilities=lambda images: class_probabilities(scores(images), "logits"),
        tail=logits,
        logits=tail(a).detach().numpy()[0],
        gradients_of=gradients_of,
        **options,
    )


def of_tail(
    activations: NDArray[np.float32], tail: Callable[[NDArray[np.float32]], NDArray[Any]], **options: Any
) -> Probing:
    """A probing of class 0 whose image is the activations themselves, so that `tail` is the whole model.

    The gradients are made up: one for class 0, and less for others.
    """

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return tail(values).astype(np.float32)

    return Probing(
        activations=activations,
        gradients=np.ones_like(activations),
        image=activations,
        target=0,
        scores=run,
        probabilities=lambda values: class_probabilities(run(values), "logits"),
        tail=run,
        logits=tail(activations[None])[0],
        gradients_of=lambda classes: np.stack([np.full_like(activations, 1 / (2 + one)) for one in classes]),
        **options,
    )


def some_activations(seed: int = 0, shape: tuple[int, ...] = (6, 4, 5)) -> NDArray[np.float32]:
    """Activations (C, h, w) that are not negative."""
    return np.abs(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def linear(weights: Any, bias: float = 0.5) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A tail: a global mean, and a head of two classes of which the second is the first turned round."""

    def tail(values: NDArray[np.float32]) -> NDArray[np.float32]:
        score = values.mean(axis=(2, 3)) @ np.asarray(weights, np.float32) + bias
        return np.stack([score, -score], axis=1)

    return tail
