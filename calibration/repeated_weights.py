"""Weights that a file stores more than once: as they are, in another order, or multiplied.

A backward pass reads the weights of the forward pass. Where it was given its own (a transposed
matrix, kernels with a batch normalisation folded in, a matrix divided by the number of cells),
the file grows, and so does the memory that is read in every inference.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from ..export.graph import LARGE_WEIGHT, Graph, tensor_bytes
from ..export.graph.normalise import open_graph

__all__ = ["Repeat", "repeated_weights"]

How = Literal["copy", "reordered", "scaled"]

#: Fewer values than this are proportional to others by chance.
_FEWEST = 16
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}


@dataclass(frozen=True)
class Repeat:
    """A weight that is there already. how: ``copy``, ``reordered`` or ``scaled`` (along one axis or as a whole).

    added: it belongs to what explains, not to the plain model.
    """

    name: str
    bytes: int
    other: str
    how: How
    added: bool

    def __str__(self) -> str:
        words = {"copy": "a copy", "reordered": "the values", "scaled": "a multiple"}[self.how]
        order = " in another order" if self.how == "reordered" else ""
        return f"'{self.name}' ({self.bytes} bytes) is {words} of '{self.other}'{order}"


def repeated_weights(model: ModelProto, plain: Sequence[str], source: ModelProto | None = None) -> list[Repeat]:
    """Weights above 1 KB (`LARGE_WEIGHT`) that `model` stores twice.

    plain: names of the plain model's outputs; what they do not need is "added". source: the
    plain model: copies that it has itself are left out.

    Copies are found everywhere. Other orders and multiples are looked for between what was added and
    everything else; two weights of one plain model may well resemble each other.
    """
    graph, _ = open_graph(model)
    tensors, needed = _large(graph), graph.ancestors(plain)
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name in sorted(tensors, key=lambda n: n not in needed):
        groups[_digest(tensors[name])].append(name)
    allowed = Counter(map(_digest, _large(open_graph(source)[0]).values())) if source is not None else Counter()
    found = []
    copies: set[str] = set()
    for digest, names in groups.items():
        first, *others = names
        for name in others[max(0, allowed[digest] - 1) :]:
            copies.add(name)
            found.append(Repeat(name, tensor_bytes(tensors[name]), first, "copy", name not in needed))
    added = [n for n in tensors if n not in needed and n not in copies and tensors[n].data_type in _FLOATS]
    for position, name in enumerate(added):
        later = set(added[position:])  # of two that were added, the later one is the repeat
        others = [n for n in tensors if n not in later and n not in copies]
        for other in others:
            how = _resemblance(tensors[name], tensors[other])
            if how is not None:
                found.append(Repeat(name, tensor_bytes(tensors[name]), other, how, True))
                break
    return found


def _large(graph: Graph) -> dict[str, TensorProto]:
    return {name: tensor for name, tensor in graph.constants.items() if tensor_bytes(tensor) > LARGE_WEIGHT}


def _digest(tensor: TensorProto) -> bytes:
    """Of type and values; another shape of the same values is the same weight."""
    values = tensor.raw_data if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()
    return hashlib.blake2b(values, digest_size=16, person=str(tensor.data_type).encode()).digest()


def _resemblance(one: TensorProto, other: TensorProto) -> How | None:
    if other.data_type not in _FLOATS or np.prod(one.dims) != np.prod(other.dims):
        return None
    a, b = (numpy_helper.to_array(t).astype(np.float64) for t in (one, other))
    if a.min() == a.max() or b.min() == b.max():  # filled with one number
        return None
    if a.min() == b.min() and a.max() == b.max() and np.array_equal(np.sort(a, axis=None), np.sort(b, axis=None)):
        return "reordered"
    return "scaled" if any(_proportional(a, c) for c in _orders(b, a.shape)) else None


def _orders(array: NDArray[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """`array` with its axes in every order that gives `shape`, kernels also turned by 180 degrees; or reshaped."""
    fitting = [p for p in itertools.permutations(range(array.ndim)) if tuple(array.shape[i] for i in p) == shape]
    for order in fitting:
        moved = array.transpose(order)
        yield moved
        if array.ndim > 2 and max(moved.shape[2:]) > 1:
            yield np.flip(moved, tuple(range(2, array.ndim)))
    if not fitting:
        yield array.reshape(shape)
        if array.ndim == 2:
            yield array.T.reshape(shape)


def _proportional(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether a is b times a number, or times one number for each index of one axis."""
    for axis in (None, *range(a.ndim)):
        x = a.reshape(1, -1) if axis is None else np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1)
        y = b.reshape(1, -1) if axis is None else np.moveaxis(b, axis, 0).reshape(b.shape[axis], -1)
        if x.shape[1] < _FEWEST:
            continue
        sizes = (y * y).sum(1)
        factors = np.divide((x * y).sum(1), sizes, out=np.zeros_like(sizes), where=sizes > 0)
        if np.abs(x - factors[:, None] * y).max() <= 1e-5 * np.abs(x).max():
            return True
    return False
