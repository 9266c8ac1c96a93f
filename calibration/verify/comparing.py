"""One photo on both sides: inferences, maps, figures.

Both sides explain the reference's top class and its second, whatever the candidate predicts: a changed label must not
count as a changed map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import ArrayError, CfcamError, EngineError, ImageError
from ...runtime.inference import Tensors
from ...runtime.probabilities import class_probabilities
from ...runtime.targets import TOP_CLASS
from .heat import Heat
from .likeness import Likeness, compare_maps, grouping_agreement, sensitivity
from .references import jittered, noise_map
from .sides import LayerMap, Side

if TYPE_CHECKING:
    from PIL import Image

    from ...runtime.photos.frame import Frame

__all__ = ["Comparer", "Failed", "PhotoFigures", "PlaceFigures", "Shown"]


@dataclass(frozen=True)
class PlaceFigures:
    """One photo, one layer (or the fused map). Everything is against the reference's map of its top class.

    candidate: the candidate's map. jitter: the reference's own on a jittered photo. other: the reference's for the
    second class, None where there is only one. noise: a map of blurred noise. clusters, clusters_jitter: adjusted
    Rand index of the groups of channels. sensitivity, sensitivity_reference: of the top class against the second.
    empty, empty_reference: why the candidate, the reference has no map, or None.
    """

    candidate: Likeness
    jitter: Likeness
    other: Likeness | None
    noise: Likeness
    clusters: float
    clusters_jitter: float
    sensitivity: float
    sensitivity_reference: float
    empty: str | None
    empty_reference: str | None


@dataclass(frozen=True)
class PhotoFigures:
    """index: among the photos that were asked for. target: the reference's top class. found: the candidate's.
    agrees: whether they are the same; of a model with one score, whether both say yes or both say no.

    logits_max, logits_mean: largest and mean difference over the classes, in standard deviations of the
    reference's logits of this photo; jitter_max, jitter_mean: the same of the reference on a jittered photo.
    places: in the order of `Side.places`.
    """

    index: int
    name: str
    target: int
    label: str
    found: int
    found_label: str
    agrees: bool
    logits_max: float
    logits_mean: float
    jitter_max: float
    jitter_mean: float
    places: tuple[PlaceFigures, ...]


@dataclass(frozen=True)
class Failed:
    """A photo without figures. candidate: whether it was the candidate that failed, and not the photo."""

    name: str
    error: str
    candidate: bool


@dataclass(frozen=True, eq=False)
class Shown:
    """What a picture of one photo needs: maps float32 (H, W) of one place, for the reference's top class."""

    photo: Image.Image
    frame: Frame
    reference: NDArray[np.float32]
    candidate: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Loaded:
    index: int
    path: Path
    photo: Image.Image
    frame: Frame
    tensor: NDArray[Any]
    given: NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Answers:
    """Of N photos. top: the reference's, for its top class. more: for the N second classes, then for the N jittered
    photos. candidate: for the N top classes, then for the N second ones. second: None where there is one class only,
    and then no answers for it either."""

    top: Tensors
    more: Tensors
    candidate: Tensors
    second: NDArray[np.int64] | None


class Comparer:
    """Measures photos. seed: of jitter and noise, which depend on it and the photo's index alone."""

    def __init__(self, candidate: Side, reference: Side, seed: int) -> None:
        self._candidate, self._reference = candidate, reference
        self._seed = seed
        self._same_input = candidate.spec.input == reference.spec.input

    def measure(self, photos: Sequence[tuple[int, Path]]) -> list[PhotoFigures | Failed]:
        """Figures of some photos, in three inferences for all of them; what fails, fails alone."""
        loaded: list[_Loaded] = []
        results: list[PhotoFigures | Failed] = []
        for index, path in photos:
            try:
                loaded.append(self._load(index, path))
            except (ImageError, ArrayError) as error:
                results.append(_failed(path, error, candidate=False))
        if loaded:
            results += self._figures(loaded)
        return results

    def show(self, index: int, path: Path, place: int) -> Shown:
        """One photo's maps of one place, computed once more. Raises a `CfcamError`."""
        one = self._load(index, path)
        top = self._reference.explainer.tensors(one.tensor[None], TOP_CLASS)
        given = self._candidate.explainer.tensors(one.given[None], int(top.classes[0]))
        return Shown(
            one.photo,
            one.frame,
            self._reference.maps(top, 0)[place].heat.values,
            self._candidate.maps(given, 0)[place].heat.values,
        )

    def _load(self, index: int, path: Path) -> _Loaded:
        ready = self._reference.explainer.prepare(path)
        # A wrong preprocessing in the candidate's file is the candidate's fault, so that it does its own.
        given = ready.tensor if self._same_input else self._candidate.explainer.prepare(ready.photo).tensor
        return _Loaded(index, path, ready.photo, ready.frame, ready.tensor, given)

    def _figures(self, loaded: list[_Loaded]) -> list[PhotoFigures | Failed]:
        try:
            answers = self._ask(loaded)
        except _SideError as error:
            if len(loaded) == 1:
                return [_failed(loaded[0].path, error.cause, candidate=error.candidate)]
            return [found for one in loaded for found in self._figures([one])]
        return [self._photo(row, one, answers) for row, one in enumerate(loaded)]

    def _ask(self, loaded: list[_Loaded]) -> _Answers:
        images = np.stack([one.tensor for one in loaded])
        shaken = np.stack([jittered(one.tensor, self._reference.spec.input, self._seed + one.index) for one in loaded])
        given = np.stack([one.given for one in loaded])
        top = _tensors(self._reference, images, [TOP_CLASS] * len(loaded), candidate=False)
        classes = [int(index) for index in top.classes]
        second = _second(top)
        if second is None:
            more = _tensors(self._reference, shaken, classes, candidate=False)
            answer = _tensors(self._candidate, given, classes, candidate=True)
        else:
            others = [int(index) for index in second]
            both = np.concatenate([images, shaken])
            more = _tensors(self._reference, both, [*others, *classes], candidate=False)
            answer = _tensors(self._candidate, np.concatenate([given, given]), [*classes, *others], candidate=True)
        return _Answers(top, more, answer, second)

    def _photo(self, row: int, one: _Loaded, answers: _Answers) -> PhotoFigures:
        top, more, given = answers.top, answers.more, answers.candidate
        count = len(top.classes)
        shaken = row if answers.second is None else count + row
        wanted = self._reference.maps(top, row, groups=True)
        found = self._candidate.maps(given, row, groups=True)
        jitter = self._reference.maps(more, shaken, groups=True)
        other = other_found = None
        if answers.second is not None:
            other = self._reference.maps(more, row)
            other_found = self._candidate.maps(given, count + row)
        values = _scores(top)[row]
        target, predicted = int(top.classes[row]), int(_scores(given)[row].argmax())
        logits_max, logits_mean = _difference(values, _scores(given)[row])
        jitter_max, jitter_mean = _difference(values, _scores(more)[shaken])
        places = tuple(
            self._place(
                number,
                self._seed + one.index,
                wanted[number],
                found[number],
                jitter[number],
                None if other is None else other[number].heat,
                None if other_found is None else other_found[number].heat,
            )
            for number in range(len(wanted))
        )
        return PhotoFigures(
            one.index,
            str(one.path),
            target,
            self._label(target),
            predicted,
            self._label(predicted),
            self._decision(top, row) == self._decision(given, row),
            logits_max,
            logits_mean,
            jitter_max,
            jitter_mean,
            places,
        )

    def _place(
        self,
        number: int,
        seed: int,
        wanted: LayerMap,
        found: LayerMap,
        jitter: LayerMap,
        other: Heat | None,
        other_found: Heat | None,
    ) -> PlaceFigures:
        size = (wanted.heat.values.shape[0], wanted.heat.values.shape[1])
        noise = Heat(noise_map(self._reference.places[number].grid, size, seed))
        return PlaceFigures(
            candidate=compare_maps(wanted.heat, found.heat),
            jitter=compare_maps(wanted.heat, jitter.heat),
            other=None if other is None else compare_maps(wanted.heat, other),
            noise=compare_maps(wanted.heat, noise),
            clusters=_grouping(wanted, found),
            clusters_jitter=_grouping(wanted, jitter),
            sensitivity=math.nan if other_found is None else sensitivity(found.heat, other_found),
            sensitivity_reference=math.nan if other is None else sensitivity(wanted.heat, other),
            empty=found.empty,
            empty_reference=wanted.empty,
        )

    def _decision(self, raw: Tensors, row: int) -> int:
        output = self._reference.spec.output
        if output.classes > 1:
            return int(_scores(raw)[row].argmax())
        return int(class_probabilities(raw.scores[row], output.kind)[0] >= 0.5)

    def _label(self, index: int) -> str:
        return self._reference.spec.output.label(index)


class _SideError(Exception):
    def __init__(self, cause: EngineError, candidate: bool) -> None:
        super().__init__(str(cause))
        self.cause, self.candidate = cause, candidate


def _tensors(side: Side, images: NDArray[Any], classes: Sequence[int], *, candidate: bool) -> Tensors:
    try:
        return side.explainer.tensors(images, list(classes))
    except EngineError as error:
        raise _SideError(error, candidate) from error


def _scores(raw: Tensors) -> NDArray[np.float32]:
    return raw.scores if raw.logits is None else raw.logits


def _second(top: Tensors) -> NDArray[np.int64] | None:
    """Every image's best class after the one that was explained, (N,), or None where there is only one."""
    scores = _scores(top).astype(np.float64)
    if scores.shape[1] < 2:
        return None
    scores[np.arange(len(scores)), top.classes] = -np.inf
    return scores.argmax(axis=1).astype(np.int64)


def _difference(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[float, float]:
    spread = float(wanted.std(dtype=np.float64))
    apart = np.abs(found.astype(np.float64) - wanted) / (spread or math.nan)
    return float(apart.max()), float(apart.mean())


def _grouping(first: LayerMap, second: LayerMap) -> float:
    if first.labels is None or second.labels is None:
        return math.nan
    return grouping_agreement(first.labels, second.labels)


def _failed(path: Path, error: CfcamError, *, candidate: bool) -> Failed:
    return Failed(str(path), " ".join(str(error).split()), candidate)
