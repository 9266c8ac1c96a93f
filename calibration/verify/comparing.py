"""One photo in both files: inferences, maps, measures.

Both files explain the reference's top class and its second, whatever the candidate predicts: a changed label must not
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
from ..sensitivity import class_sensitivity
from .compared_file import ComparedFile, LayerMap, Place
from .heat import Heat
from .likeness import Likeness, compare_maps, grouping_agreement
from .references import jittered, noise_map

if TYPE_CHECKING:
    from ...runtime.photos.preprocess import Prepared

__all__ = ["Comparer", "Failed", "PhotoMeasures", "PlaceMeasures", "Shown"]


#: So much may float32 round differently: a hundredth of what float16 does.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class PlaceMeasures:
    """One photo, one layer (or the fused map). Everything is against the reference's map of its top class.

    What is said of two classes is measured at contrast 0: contrast sets them apart by construction, and a scale that is
    stretched forgives more. A fused file cannot leave its contrast out: where the candidate is one, the sensitivity of
    both is measured at that contrast, and `other` only where the reference is one.

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

    @property
    def identical(self) -> bool:
        """Whether both files have the same map for the top class, and tell the second one from it equally well, but for
        what float32 rounds differently in a batch of another size."""
        if self.empty is not None or self.empty_reference is not None:
            return self.empty is not None and self.empty_reference is not None
        apart = self.sensitivity - self.sensitivity_reference
        no_second = math.isnan(self.sensitivity) and math.isnan(self.sensitivity_reference)
        return 1 - self.candidate.pearson <= _ROUNDING and (no_second or abs(apart) <= _ROUNDING)


@dataclass(frozen=True)
class PhotoMeasures:
    """index: among the photos that were asked for. target: the reference's top class. predicted: the candidate's.
    agrees: whether they are the same; of a model with one score, whether both say yes or both say no.

    logits_max, logits_mean: largest and mean difference over the classes, in standard deviations of the
    reference's logits of this photo; jitter_max, jitter_mean: the same of the reference on a jittered photo.
    places: in the order of `ComparedFile.places`. same_scores: but for float32's rounding.
    """

    index: int
    name: str
    target: int
    label: str
    predicted: int
    predicted_label: str
    agrees: bool
    logits_max: float
    logits_mean: float
    jitter_max: float
    jitter_mean: float
    places: tuple[PlaceMeasures, ...]
    same_scores: bool = False

    @property
    def identical(self) -> bool:
        """Whether scores and maps of both files are the same for both classes, but for float32's rounding."""
        return self.same_scores and all(one.identical for one in self.places)


@dataclass(frozen=True)
class Failed:
    """A photo without measures. candidate: whether it was the candidate that failed, and not the photo."""

    name: str
    error: str
    candidate: bool


@dataclass(frozen=True, eq=False)
class Shown:
    """What a picture of one photo needs: maps float32 (H, W) of one place, for the reference's top class."""

    prepared: Prepared
    reference: NDArray[np.float32]
    candidate: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _TwoClasses:
    """One photo's maps of one place for the reference's top class and for its second one, at a contrast that both files
    can have; scale: the reference's two at the least contrast that it can have."""

    reference: LayerMap
    candidate: LayerMap
    reference_other: LayerMap
    candidate_other: LayerMap
    scale: tuple[LayerMap, LayerMap]


@dataclass(frozen=True, eq=False)
class _Loaded:
    index: int
    path: Path
    prepared: Prepared
    candidate_tensor: NDArray[Any]


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

    def __init__(self, candidate: ComparedFile, reference: ComparedFile, seed: int) -> None:
        self._candidate, self._reference = candidate, reference
        self._seed = seed
        self._same_input = candidate.spec.input == reference.spec.input

    def measure(self, photos: Sequence[tuple[int, Path]]) -> list[PhotoMeasures | Failed]:
        """Measures of some photos, in three inferences for all of them; what fails, fails alone."""
        loaded: list[_Loaded] = []
        results: list[PhotoMeasures | Failed] = []
        for index, path in photos:
            try:
                loaded.append(self._load(index, path))
            except (ImageError, ArrayError) as error:
                results.append(_failed(path, error, candidate=False))
        if loaded:
            results += self._measure(loaded)
        return results

    def show(self, index: int, path: Path, place: int) -> Shown:
        """One photo's maps of one place, computed once more. Raises a `CfcamError`."""
        loaded = self._load(index, path)
        reference = self._reference.explainer.answers(loaded.prepared.tensor[None], TOP_CLASS)
        candidate = self._candidate.explainer.answers(loaded.candidate_tensor[None], int(reference.classes[0]))
        return Shown(
            loaded.prepared,
            self._reference.maps(reference, 0)[place].heat.values,
            self._candidate.maps(candidate, 0)[place].heat.values,
        )

    def _load(self, index: int, path: Path) -> _Loaded:
        ready = self._reference.explainer.prepare(path)
        # A wrong preprocessing in the candidate's file is the candidate's fault, so that it does its own.
        own = ready.tensor if self._same_input else self._candidate.explainer.prepare(ready.photo).tensor
        return _Loaded(index, path, ready, own)

    def _measure(self, loaded: list[_Loaded]) -> list[PhotoMeasures | Failed]:
        try:
            answers = self._ask(loaded)
        except _FileError as error:
            if len(loaded) == 1:
                cause, candidate = error.args
                return [_failed(loaded[0].path, cause, candidate=candidate)]
            return [result for alone in loaded for result in self._measure([alone])]
        return [self._photo(row, photo, answers) for row, photo in enumerate(loaded)]

    def _ask(self, loaded: list[_Loaded]) -> _Answers:
        images = np.stack([photo.prepared.tensor for photo in loaded])
        spec = self._reference.spec.input
        shaken = np.stack([jittered(photo.prepared.tensor, spec, self._seed + photo.index) for photo in loaded])
        candidate_images = np.stack([photo.candidate_tensor for photo in loaded])
        top = _tensors(self._reference, images, [TOP_CLASS] * len(loaded), candidate=False)
        classes = [int(index) for index in top.classes]
        second = _second(top)
        others = [] if second is None else [int(index) for index in second]
        count = len(others)  # as many as the images, or none
        more_images = np.concatenate([images[:count], shaken])
        more = _tensors(self._reference, more_images, [*others, *classes], candidate=False)
        twice = np.concatenate([candidate_images, candidate_images[:count]])
        answer = _tensors(self._candidate, twice, [*classes, *others], candidate=True)
        return _Answers(top, more, answer, second)

    def _photo(self, row: int, photo: _Loaded, answers: _Answers) -> PhotoMeasures:
        top, more, candidate = answers.top, answers.more, answers.candidate
        count = len(top.classes)
        shaken = row if answers.second is None else count + row
        reference = self._reference.maps(top, row, groups=True)
        found = self._candidate.maps(candidate, row, groups=True)
        jitter = self._reference.maps(more, shaken, groups=True)
        classes: Sequence[_TwoClasses | None] = [None] * len(self._reference.places)
        if answers.second is not None:
            base, other = self._reference, self._candidate
            bare = base.takes_contrast_off and other.takes_contrast_off
            own = not bare or not base.has_contrast  # the maps that there are already
            firsts = [reference if own else base.maps(top, row, contrast=False)]
            firsts += [found if own else other.maps(candidate, row, contrast=False)]
            others = [base.maps(more, row, contrast=not bare), other.maps(candidate, count + row, contrast=not bare)]
            scale = [firsts[0], others[0]]
            if base.takes_contrast_off and not bare:
                scale = [base.maps(top, row, contrast=False), base.maps(more, row, contrast=False)]
            pairs = zip(*scale, strict=True)
            classes = [_TwoClasses(*each) for each in zip(*firsts, *others, pairs, strict=True)]
        maps = zip(self._reference.places, reference, found, jitter, classes, strict=True)
        logits, label = _scores(top)[row], self._reference.spec.output.label
        target, predicted = int(top.classes[row]), int(_scores(candidate)[row].argmax())
        logits_max, logits_mean = _difference(logits, _scores(candidate)[row])
        jitter_max, jitter_mean = _difference(logits, _scores(more)[shaken])
        return PhotoMeasures(
            index=photo.index,
            name=str(photo.path),
            target=target,
            label=label(target),
            predicted=predicted,
            predicted_label=label(predicted),
            agrees=self._decision(top, row) == self._decision(candidate, row),
            logits_max=logits_max,
            logits_mean=logits_mean,
            jitter_max=jitter_max,
            jitter_mean=jitter_mean,
            places=tuple(_measure_place(self._seed + photo.index, *place_maps) for place_maps in maps),
            same_scores=np.allclose(logits, _scores(candidate)[row], rtol=_ROUNDING, atol=_ROUNDING * np.ptp(logits)),
        )

    def _decision(self, raw: Tensors, row: int) -> int:
        output = self._reference.spec.output
        if output.classes > 1:
            return int(_scores(raw)[row].argmax())
        return int(class_probabilities(raw.scores[row], output.kind)[0] >= 0.5)


class _FileError(Exception):
    """One of the two files failed; the arguments are the error, and whether it was the candidate."""


def _tensors(file: ComparedFile, images: NDArray[Any], classes: Sequence[int], *, candidate: bool) -> Tensors:
    try:
        return file.explainer.answers(images, list(classes))
    except EngineError as error:
        raise _FileError(error, candidate) from error


def _scores(raw: Tensors) -> NDArray[np.float32]:
    return raw.scores if raw.logits is None else raw.logits


def _second(top: Tensors) -> NDArray[np.int64] | None:
    """Every image's best class after the one that was explained, (N,), or None where there is only one."""
    scores = _scores(top).astype(np.float64)
    if scores.shape[1] < 2:
        return None
    scores[np.arange(len(scores)), top.classes] = -np.inf
    return scores.argmax(axis=1).astype(np.int64)


def _difference(reference: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float]:
    spread = float(reference.std(dtype=np.float64))
    apart = np.abs(other.astype(np.float64) - reference) / (spread or math.nan)
    return float(apart.max()), float(apart.mean())


def _measure_place(
    seed: int,
    place: Place,
    reference: LayerMap,
    candidate: LayerMap,
    jitter: LayerMap,
    classes: _TwoClasses | None,
) -> PlaceMeasures:
    """Maps of one photo at one place. classes: None where there is one class."""
    height, width = reference.heat.values.shape
    noise = Heat(noise_map(place.grid, (height, width), seed))
    return PlaceMeasures(
        candidate=compare_maps(reference.heat, candidate.heat),
        jitter=compare_maps(reference.heat, jitter.heat),
        other=None if classes is None else compare_maps(*(one.heat for one in classes.scale)),
        noise=compare_maps(reference.heat, noise),
        clusters=_grouping(reference, candidate),
        clusters_jitter=_grouping(reference, jitter),
        sensitivity=math.nan if classes is None else _sensitivity(classes.candidate, classes.candidate_other),
        sensitivity_reference=math.nan if classes is None else _sensitivity(classes.reference, classes.reference_other),
        empty=candidate.empty,
        empty_reference=reference.empty,
    )


def _sensitivity(top: LayerMap, other: LayerMap) -> float:
    return class_sensitivity(top.heat.values, other.heat.values)


def _grouping(first: LayerMap, second: LayerMap) -> float:
    if first.labels is None or second.labels is None:
        return math.nan
    return grouping_agreement(first.labels, second.labels)


def _failed(path: Path, error: CfcamError, *, candidate: bool) -> Failed:
    return Failed(str(path), " ".join(str(error).split()), candidate)
