"""Running an exported file on ready tensors, and checking what comes back.

Everything that runs the model goes through `Inference`: one place for batches that are fixed, for
outputs that the file may lack, and for numbers that are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract.spec import CamSpec, FusedSpec, LayerSpec
from .engines.base import Engine, EngineInfo
from .errors import EngineError, SpecError
from .photos.frame import Frame
from .probabilities import class_probabilities
from .targets import TOP_CLASS, check_fixed_target, class_feed, class_input, in_first_column

__all__ = ["Finished", "Inference", "LayerTensors", "Tensors", "by_class", "finite", "infer_all"]


@dataclass(frozen=True, eq=False)
class LayerTensors:
    """What one inference gave of one target layer for N images.

    activations, gradients: float32 (N, C, h, w). detail: activations float32 (N, D, H, W) of a finer layer, without
    gradients. rivals: the gradient of the logsumexp of the other classes' logits, float32 (N, C, 1, 1). Either is None
    where the file has none.
    """

    activations: NDArray[np.float32]
    gradients: NDArray[np.float32]
    detail: NDArray[np.float32] | None = None
    rivals: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """What a fused file gave for N images.

    maps: float32 (N, H, W) in [0, 1]. empty: bool (N,). guided: bool (N,), whether the detail layer sharpened the map;
    None of files without one. counts: int64 (N, 4), clusters, clustered channels, noise and
    dead ones; None of methods without clusters.
    """

    maps: NDArray[np.float32]
    empty: NDArray[np.bool_]
    guided: NDArray[np.bool_] | None = None
    counts: NDArray[np.int64] | None = None

    def counts_of(self, index: int) -> dict[str, int] | None:
        """Channels of an image by kind, and the number of clusters, as far as the file counts them."""
        if self.counts is None:
            return None
        names = ("clusters", "clustered", "noise", "dead")
        return dict(zip(names, (int(count) for count in self.counts[index]), strict=True))


@dataclass(frozen=True, eq=False)
class Tensors:
    """What one inference gave for N images, for work on the raw values.

    Attributes:
        layers: Activations and gradients of every target layer, in the file's order; at least one, but none of a fused
            file.
        classes: Int64 (N,), the explained classes.
        scores: Float32 (N, K), the output that is shown to people.
        logits: Float32 (N, K) before softmax or sigmoid; None if the file has no such output.
        frames: N of them: where the inputs lie on the photos.
        finished: The maps that a fused file makes itself; None of other files.
        against: Int64 (N,), the classes whose gradients were taken off; None where there are none.
    """

    layers: tuple[LayerTensors, ...]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    frames: tuple[Frame, ...]
    finished: Finished | None = None
    against: NDArray[np.int64] | None = None

    @property
    def activations(self) -> NDArray[np.float32]:
        """Those of the first layer, float32 (N, C, h, w)."""
        return self.layers[0].activations

    @property
    def gradients(self) -> NDArray[np.float32]:
        """Those of the first layer, float32 (N, C, h, w)."""
        return self.layers[0].gradients


class Inference:
    """One engine and what its file says about itself. path: of the file, for messages."""

    def __init__(self, path: Path, spec: CamSpec, engine: Engine) -> None:
        self._path, self._spec, self._engine = path, spec, engine
        self.info = engine.describe()
        lacking = [name for name in (spec.output.name, *spec.added_outputs) if name not in self.info.outputs]
        if lacking:
            raise EngineError(
                f"{path}: its CamSpec names the outputs {', '.join(lacking)}, but the model's outputs are "
                f"{', '.join(self.info.outputs)}: another tool has changed the file, export or build it again"
            )
        _refuse_another_graph(path, spec, self.info)
        self._where = f"{spec.precision} on '{self.info.provider}'"

    def tensors(self, images: NDArray[Any], classes: NDArray[np.int64], frames: Sequence[Frame]) -> Tensors:
        """Everything that the file computes for N images in its own layout; classes: -1 for the top one."""
        check_fixed_target(self._spec, classes, path=self._path)
        values = self._all(images, class_input(self._spec, classes))
        found = self._tensors(in_first_column(self._spec, values), frames)
        check_fixed_target(self._spec, classes, found.classes, self._path)
        return found

    def columns(self, images: NDArray[Any], classes: NDArray[np.int64], frames: Sequence[Frame]) -> tuple[Tensors, ...]:
        """`tensors` for each column of `classes` (N, K): of one inference, where the file explains so many at once.

        What no class can change is shared between the columns.
        """
        spec, count = self._spec, classes.shape[1]
        if classes.min() < (TOP_CLASS if spec.columns is None else -spec.columns.ranks):
            # The order of the scores comes from an inference of its own.
            order = np.argsort(-self._single(images, spec.output.name), axis=1, kind="stable")
            ranked = np.take_along_axis(order, np.maximum(-1 - classes, 0), axis=1)
            classes = np.where(classes < 0, ranked, classes)
        if spec.columns is None:
            return tuple(self.tensors(images, column, frames) for column in classes.T)
        found: list[Tensors] = []
        step = spec.columns.count or count
        for start in range(0, count, step):
            some = classes[:, start : start + step]
            missing = step - some.shape[1]
            values = self._all(images, np.concatenate([some, np.repeat(some[:, -1:], missing, axis=1)], axis=1))
            found += [
                self._tensors({n: v[:, k] if n in spec.by_class else v for n, v in values.items()}, frames)
                for k in range(some.shape[1])
            ]
        return tuple(found)

    def _all(self, images: NDArray[Any], classes: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        output = self._spec.output
        names = [output.name, *self._spec.added_outputs]
        if output.score in self.info.outputs:
            names.append(output.score)
        return self._run(images, classes, names)

    def _tensors(self, values: Mapping[str, NDArray[Any]], frames: Sequence[Frame]) -> Tensors:
        output, fused, chosen = self._spec.output, self._spec.fused, self._spec.chosen
        layers = self._spec.layers if fused is None else ()
        logits = values.get(output.score)
        return Tensors(
            layers=tuple(self._layer(layer, values) for layer in layers),
            classes=values[chosen].reshape(-1).astype(np.int64),
            scores=self._by_class(output.name, values[output.name]),
            logits=None if logits is None else self._by_class(output.score, logits),
            frames=tuple(frames),
            finished=None if fused is None else self._finished(fused, values, len(frames)),
        )

    def _finished(self, fused: FusedSpec, values: Mapping[str, NDArray[Any]], count: int) -> Finished:
        maps = values[fused.map]
        if maps.shape != (count, *fused.size):
            raise EngineError(f"{self._path}: expected '{fused.map}' {(count, *fused.size)}, got {maps.shape}")
        counts = None if fused.counts is None else values[fused.counts].astype(np.int64)
        if counts is not None and counts.shape != (count, 4):
            raise EngineError(f"{self._path}: expected '{fused.counts}' {(count, 4)}, got {counts.shape}")
        guided = None if fused.guided is None else values[fused.guided].reshape(-1).astype(np.bool_)
        return Finished(maps, values[fused.empty].reshape(-1).astype(np.bool_), guided, counts)

    def _layer(self, layer: LayerSpec, values: Mapping[str, NDArray[Any]]) -> LayerTensors:
        activations, gradients = values[layer.activations], values[layer.gradients]
        if activations.ndim != 4 or activations.shape != gradients.shape:
            raise EngineError(
                f"{self._path}: expected '{layer.activations}' and '{layer.gradients}' of one shape (N, C, h, w), got "
                f"{activations.shape} and {gradients.shape}"
            )
        detail = None if layer.detail is None else values[layer.detail.activations]
        rivals = None if layer.rivals is None else values[layer.rivals]
        if detail is not None and detail.ndim != 4:
            raise EngineError(f"{self._path}: expected the detail (N, D, H, W), got {detail.shape}")
        if rivals is not None and rivals.shape[1:] != (activations.shape[1], 1, 1):
            raise EngineError(f"{self._path}: expected '{layer.rivals}' (N, C, 1, 1), got {rivals.shape}")
        return LayerTensors(activations, gradients, detail, rivals)

    def scores(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """(N, K): the logits of images in the file's layout, or what the file shows where it has no logits."""
        score = self._spec.output.score
        return self._single(images, score if score in self.info.outputs else self._spec.output.name)

    def probabilities(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (N, K) of images in the file's layout."""
        return class_probabilities(self._single(images, self._spec.output.name), self._spec.output.kind)

    def _single(self, images: NDArray[Any], name: str) -> NDArray[np.float32]:
        return self._by_class(name, self._run(images, self._top(len(images)), [name])[name])

    def _top(self, count: int) -> NDArray[np.int64]:
        return class_input(self._spec, np.full(count, TOP_CLASS, np.int64))

    def _run(self, images: NDArray[Any], classes: NDArray[np.int64], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Outputs by name; all but the classes as float32, and finite."""
        feed = {self._spec.input.name: images, **class_feed(self._spec, classes)}
        return {
            name: value if name == self._spec.chosen else finite(self._path, name, value, len(images), self._where)
            for name, value in infer_all(self._engine, feed, list(dict.fromkeys(names))).items()
        }

    def _by_class(self, name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
        return by_class(self._path, name, value, self._spec.output.classes)


def _refuse_another_graph(path: Path, spec: CamSpec, info: EngineInfo) -> None:
    """Raise `SpecError` where the file takes other images than its `CamSpec` says, as far as the engine knows."""
    if not info.takes:
        return
    advice = "the metadata belong to another graph: export the model again"
    if spec.input.name not in info.takes:
        raise SpecError(f"{path}: CamSpec names the input '{spec.input.name}', found {', '.join(info.takes)}; {advice}")
    dtype, sizes = info.takes[spec.input.name]
    stated = spec.input.shape(1)[1:]
    same = len(sizes) == 4 and all(a in (None, b) for a, b in zip(sizes[1:], stated, strict=True))
    if dtype != spec.input.dtype or not same:
        said, found = (f"(N, {', '.join('?' if n is None else str(n) for n in one)})" for one in (stated, sizes[1:]))
        raise SpecError(
            f"{path}: CamSpec says that input '{spec.input.name}' is {spec.input.dtype} {said}, in the file it is "
            f"{dtype} {found}; {advice}"
        )


def infer_all(engine: Engine, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """`outputs` for N rows of every input: in one run, or in as many as the engine's largest batch needs."""
    count = len(next(iter(feed.values())))
    info = engine.describe()
    step = info.max_batch or count
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in outputs}
    for start in range(0, count, step):
        some = {name: value[start : start + step] for name, value in feed.items()}
        here = min(step, count - start)
        if here < info.min_batch:  # filled up with copies, whose results are dropped
            some = {
                name: np.concatenate([value, np.repeat(value[-1:], info.min_batch - here, axis=0)])
                for name, value in some.items()
            }
        for name, value in engine.infer(some, outputs).items():
            parts[name].append(value[:here])
    # What came in one part is not copied: activations and gradients are megabytes.
    return {name: part[0] if len(part) == 1 else np.concatenate(part) for name, part in parts.items()}


def finite(path: Path, name: str, value: NDArray[Any], count: int, where: str) -> NDArray[np.float32]:
    """The output `name` as float32, checked to hold `count` finite rows. Raises `EngineError`."""
    if len(value) != count:
        raise EngineError(f"{path}: output '{name}' has shape {value.shape}, expected {count} images")
    value = value.astype(np.float32, copy=False)
    if not np.isfinite(value).all():
        bad = next(i for i in range(count) if not np.isfinite(value[i]).all())
        raise EngineError(
            f"{path}: output '{name}' holds NaN or infinity for image {bad} of the batch: "
            f"the model overflows in {where}"
        )
    return value


def by_class(path: Path, name: str, value: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """The output `name` as (N, classes). Raises `EngineError`."""
    if value.size != len(value) * classes:
        raise EngineError(f"{path}: output '{name}' has shape {value.shape}, expected {classes} classes")
    return value.reshape(len(value), -1)
