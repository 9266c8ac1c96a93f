"""One network for many methods: what it says about an image is asked once and kept for the others."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...runtime.closing import Closing
from ...runtime.explainer import Explainer
from ...runtime.inference import LayerTensors, Tensors
from ...runtime.probabilities import class_probabilities
from ...runtime.targets import TOP_CLASS
from ..measures.access import EngineAccess
from ..measures.base import Images, slices

__all__ = ["Arrays", "SharedEngine"]


@dataclass(frozen=True, eq=False)
class Arrays:
    """What rules need of N images: probabilities float32 (N, K), classes int64 (N,), and the layers' tensors."""

    probabilities: NDArray[np.float32]
    classes: NDArray[np.int64]
    layers: tuple[LayerTensors, ...]


_Result = TypeVar("_Result")
#: Of one image: probabilities, the class, and the layers' tensors for N = 1.
_One = tuple[NDArray[np.float32], int, tuple[LayerTensors, ...]]


class SharedEngine(Closing):
    """Probabilities and layers' tensors of ready images float32 (N, C, H, W), each computed once.

    explainer: stays the caller's to close. batch: images per inference. workers: inferences at once; on a CPU several
    of one thread each do more than one of several threads, which wait for each other. keep: bytes of
    tensors that are remembered; the oldest are forgotten first. Images are recognised by their
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
        self.load, self.input = self._access.load, self._access.input

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
                one = (p[row], int(raw.classes[row]), tuple(_of_row(layer, row) for layer in raw.layers))
                found[keys[i]] = one
                self._remember(keys[i], one)
                if keys[i][1] == TOP_CLASS:
                    self._remember((keys[i][0], one[1]), one)
        rows = [found[key] for key in keys]
        return Arrays(
            probabilities=np.stack([row[0] for row in rows]),
            classes=np.array([row[1] for row in rows], np.int64),
            layers=tuple(_joined(images) for images in zip(*(row[2] for row in rows), strict=True)),
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


_ARRAYS = tuple(field.name for field in fields(LayerTensors))


def _of_row(layer: LayerTensors, row: int) -> LayerTensors:
    """The tensors of one image, copied: a view would keep the whole batch alive."""
    arrays = {name: getattr(layer, name) for name in _ARRAYS}
    copies: dict[str, Any] = {name: None if a is None else a[row : row + 1].copy() for name, a in arrays.items()}
    return LayerTensors(**copies)


def _joined(images: Sequence[LayerTensors]) -> LayerTensors:
    """One layer's tensors of several images."""
    arrays = {name: [getattr(one, name) for one in images] for name in _ARRAYS}
    joined: dict[str, Any] = {n: None if each[0] is None else np.concatenate(each) for n, each in arrays.items()}
    return LayerTensors(**joined)


def _bytes(one: _One) -> int:
    arrays = [getattr(layer, name) for layer in one[2] for name in _ARRAYS]
    return sum(array.nbytes for array in arrays if array is not None)


def _digest(image: NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
