"""One network for many methods: what it says about an image is asked once and kept for the others."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...runtime.closing import Closing
from ...runtime.explainer import Explainer
from ...runtime.inference import Tensors
from ...runtime.probabilities import class_probabilities
from ...runtime.targets import TOP_CLASS
from ..measures.access import EngineAccess
from ..measures.base import Images, slices

__all__ = ["Arrays", "SharedEngine"]


@dataclass(frozen=True, eq=False)
class Arrays:
    """What rules need of N images: probabilities float32 (N, K), classes int64 (N,), and both (N, C, h, w).

    Of several target layers activations and gradients are tuples of such arrays, as `EngineAccess.rule` takes them.
    """

    probabilities: NDArray[np.float32]
    classes: NDArray[np.int64]
    activations: NDArray[np.float32] | tuple[NDArray[np.float32], ...]
    gradients: NDArray[np.float32] | tuple[NDArray[np.float32], ...]


_Result = TypeVar("_Result")
_Layers = tuple[NDArray[np.float32], ...]
_One = tuple[NDArray[np.float32], int, _Layers, _Layers]


class SharedEngine(Closing):
    """Probabilities, activations and gradients of ready images float32 (N, C, H, W), each computed once.

    explainer: stays the caller's to close. batch: images per inference. workers: inferences at once; on a CPU several
    of one thread each do more than one of several threads, which wait for each other. keep: bytes of
    activations and gradients that are remembered; the oldest are forgotten first. Images are recognised by their
    values, so that measures which draw the same noise for every method cost one inference for all rules.
    """

    def __init__(self, explainer: Explainer, *, batch: int = 8, workers: int = 1, keep: int = 2**26) -> None:
        self.explainer = explainer
        self.batch = batch
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        # Any rule will do: it is asked for images and probabilities alone.
        self._access = EngineAccess(explainer, "gradcam")
        self._keep = keep
        self._kept: OrderedDict[tuple[bytes, int], _One] = OrderedDict()
        self._size = 0
        self.load = self._access.load

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def predict(self, images: Images) -> NDArray[np.float32]:
        """Probabilities (N, K), in batches; nothing is remembered: a `Predict`."""
        return np.concatenate(self._each(lambda part: self._access.predict(images[part]), len(images)))

    def arrays(self, images: Images, classes: NDArray[np.int64]) -> Arrays:
        """Everything for `classes`, -1 for the top class. Raises `EngineError`."""
        keys = [(_digest(image), int(index)) for image, index in zip(images, classes, strict=True)]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = [i for i, key in enumerate(keys) if key not in found]

        def ask(part: slice) -> tuple[list[int], Tensors]:
            some = missing[part]
            return some, self._access.tensors(images[some], [keys[i][1] for i in some])

        for some, raw in self._each(ask, len(missing)):
            p = class_probabilities(raw.scores, self.explainer.spec.output.kind)
            for row, i in enumerate(some):
                # Copies: a view would keep the whole batch alive.
                activations = tuple(layer.activations[row].copy() for layer in raw.layers)
                gradients = tuple(layer.gradients[row].copy() for layer in raw.layers)
                one = (p[row], int(raw.classes[row]), activations, gradients)
                found[keys[i]] = one
                self._remember(keys[i], one)
                if keys[i][1] == TOP_CLASS:
                    self._remember((keys[i][0], one[1]), one)
        rows = [found[key] for key in keys]
        return Arrays(
            probabilities=np.stack([row[0] for row in rows]),
            classes=np.array([row[1] for row in rows], np.int64),
            activations=_stacked([row[2] for row in rows]),
            gradients=_stacked([row[3] for row in rows]),
        )

    def _each(self, work: Callable[[slice], _Result], count: int) -> list[_Result]:
        """`work` for parts that cover 0 to `count`, in order, some of them at once."""
        parts = slices(count, max(1, min(self.batch, -(-count // self.workers))))
        return list(map(work, parts) if self._pool is None else self._pool.map(work, parts))

    def forget(self) -> None:
        """Drop what is remembered: the photo is done."""
        self._kept.clear()
        self._size = 0

    def _remember(self, key: tuple[bytes, int], one: _One) -> None:
        self._kept[key] = one
        self._size += _bytes(one)
        while self._size > self._keep and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._size -= _bytes(old)


def _stacked(images: list[_Layers]) -> NDArray[np.float32] | _Layers:
    layers = tuple(np.stack(layer) for layer in zip(*images, strict=True))
    return layers[0] if len(layers) == 1 else layers


def _bytes(one: _One) -> int:
    return sum(array.nbytes for array in (*one[2], *one[3]))


def _digest(image: NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
