"""Settings of `cfcam` for one network: searched on some photos, measured on others, kept only when they gain.

Activations and gradients of every photo are computed once; a setting then costs its maps, and the measure.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.contract.spec import CamSpec
from ...runtime.errors import ArrayError, MethodError
from ...runtime.explainer import Explainer
from ...runtime.inference import LayerTensors
from ...runtime.methods import CfcamSettings
from ...runtime.methods.numerics.resizing import same_grid
from ...runtime.photos.frame import Frame
from ..measures import EngineAccess, insertion_deletion, pixel_precision
from ..measures.noise import agreement, noisy
from ..statistics import Difference, TooFewPhotosError, paired_difference, photos_needed

__all__ = [
    "CHOICES",
    "GATE_CHOICES",
    "Goal",
    "Sample",
    "Tuned",
    "halves",
    "read_sample",
    "refuse_several_layers",
    "tune",
]

#: What the search raises: faithfulness, or agreement with boxes or masks.
Goal = Literal["insertion_deletion", "pixel_ap"]

#: The values that are tried, in the order of the settings' weight on the tuning photos of docs/results/two-layers.md.
CHOICES: dict[str, tuple[Any, ...]] = {
    "map_sigma": (None, 0.0, 0.5, 1.0),
    "sigma": (None, 0.0, 1.0, 2.0),
    "shrinkage": (0.5, 0.0, 0.25, 0.75),
    "sign_split": (None, False, True),
    "feature_sigma": (1.5, 0.0, 1.0),
    "size_exponent": (0.0, 0.25),
}
#: Those of the gate, for files with a detail layer. Not among them: `contrast`. Insertion and deletion measure the
#: softmax's probability, which is the class's score against its rivals', so that they would reward it by construction.
GATE_CHOICES: dict[str, tuple[Any, ...]] = {
    "gate_offset": (0.0, 0.15, 0.3),
    "gate_floor": (0.3, 0.15, 0.5),
}

# Stability under gradient noise (Spearman) may fall by this much and no more: faithfulness that is
# bought with noise is no gain.
_STABILITY_LOSS = 0.01
_STEPS = 16


@dataclass(frozen=True, eq=False)
class Sample:
    """One photo as the network saw it.

    image: float32 (C, H, W), preprocessed. target: the class explained. layer: what an inference gave of the target
    layer, N = 1. region: bool (H, W) of the object, or None.
    """

    name: str
    image: NDArray[np.float32]
    target: int
    layer: LayerTensors
    region: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Tuned:
    """What was found.

    settings: changes to the defaults that are worth keeping; empty when nothing was gained. best: what the
    search preferred. gain: of `best` over the defaults on the photos that the search never saw; None
    where it preferred the defaults. stability: the same for gradient noise. tried: settings measured.
    """

    measure: Goal
    settings: dict[str, Any]
    best: dict[str, Any]
    gain: Difference | None
    stability: Difference | None
    searched: int
    held_out: int
    tried: int
    seconds: float
    complete: bool


def read_sample(
    explainer: Explainer, source: Any, name: str, region: Callable[[Frame], NDArray[np.bool_] | None] | None = None
) -> Sample:
    """A photo, its top class explained. region: its `Frame` -> the object, or None. Raises `ImageError`."""
    access = EngineAccess(explainer, "cfcam")
    images, frames = access.load([source])
    target = int(access.predict(images)[0].argmax())
    (layer,) = access.tensors(images, [target]).layers
    return Sample(name, images[0], target, layer, None if region is None else region(frames[0]))


def tune(
    explainer: Explainer,
    samples: Sequence[Sample],
    *,
    measure: Goal = "insertion_deletion",
    budget: float = 600,
    seed: int = 0,
    progress: Callable[[int, dict[str, Any], float], None] | None = None,
) -> Tuned:
    """Search one setting after the other, again and again until a round changes nothing.

    What is tried is `CHOICES`, and for files with a detail layer `GATE_CHOICES`.
    explainer: of the file that the samples come from. budget: seconds for the search; it always measures the
    defaults, and ends with the best so far. progress: told how many settings were measured, the
    last one, and its mean. What the photos show decides which half they are in, not their names or order.

    Raises `TooFewPhotosError` when the held-out half is too small for an interval, `MethodError` for a file of several
    layers, and `ArrayError`.
    """
    refuse_several_layers(explainer.spec)
    if measure not in ("insertion_deletion", "pixel_ap"):
        raise ArrayError(f"measure: expected 'insertion_deletion' or 'pixel_ap', got {measure!r}")
    if measure == "pixel_ap":
        samples = [one for one in samples if one.region is not None and one.region.any()]
    search, held = halves(samples)
    needed = photos_needed()
    if len(held) < needed or len(search) < needed:
        raise TooFewPhotosError(
            f"tune: {len(search)} photos to search on and {len(held)} to measure the gain on are too few: each half "
            f"needs {needed}, so give {2 * needed} photos or more"
        )
    started = time.monotonic()
    trials = _Trials(explainer, measure, seed)
    choices = {**CHOICES, **(GATE_CHOICES if explainer.spec.layer.detail is not None else {})}
    best: dict[str, Any] = {}
    best_score, floor = trials.means(search, best)
    seen, complete, changed = [best], True, True
    while changed and complete:
        changed = False
        for name, values in choices.items():
            for value in values:
                changes = {**best, name: value}.items()
                candidate = {one: setting for one, setting in changes if setting != choices[one][0]}
                if candidate in seen:
                    continue
                if time.monotonic() - started > budget:
                    complete = False
                    break
                score, stability = trials.means(search, candidate)
                seen.append(candidate)
                if progress is not None:
                    progress(len(seen), candidate, score)
                if score > best_score and stability >= floor - _STABILITY_LOSS:
                    best, best_score, changed = candidate, score, True
    gain = stability = None
    settings: dict[str, Any] = {}
    if best:
        first, second = trials.values(held, best), trials.values(held, {})
        gain = paired_difference(first[0], second[0], seed=seed)
        stability = paired_difference(first[1], second[1], seed=seed)
        if gain.low > 0 and stability.mean >= -_STABILITY_LOSS:
            settings = best
    return Tuned(
        measure=measure,
        settings=settings,
        best=best,
        gain=gain,
        stability=stability,
        searched=len(search),
        held_out=len(held),
        tried=len(seen),
        seconds=time.monotonic() - started,
        complete=complete,
    )


def refuse_several_layers(spec: CamSpec) -> None:
    """Raise `MethodError` unless the file has one target layer."""
    if len(spec.layers) > 1:
        raise MethodError("tune: the file has several target layers; settings are searched for one layer only")


def halves(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The photos to search on, and those that show the gain: every second one, in the order of their pixels' hashes."""
    order = sorted(samples, key=lambda one: hashlib.sha256(one.image.tobytes()).digest())
    return order[::2], order[1::2]


class _Trials:
    """What settings reach, each measured once per half."""

    def __init__(self, explainer: Explainer, measure: Goal, seed: int) -> None:
        self._explainer, self._measure, self._seed = explainer, measure, seed
        self._predict = EngineAccess(explainer, "cfcam").predict

    def means(self, samples: Sequence[Sample], settings: dict[str, Any]) -> tuple[float, float]:
        first, second = self.values(samples, settings)
        return float(np.mean(first)), float(np.mean(second))

    def values(
        self, samples: Sequence[Sample], settings: dict[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The measure and the stability of every sample."""
        options = CfcamSettings(last=self._explainer.spec.layer.pooled, **settings)
        rule = EngineAccess(self._explainer, "cfcam", options).rule
        values, stable = [], []
        for one in samples:
            clean = rule((one.layer,))[0]
            random = np.random.default_rng([self._seed, zlib.crc32(one.name.encode(errors="surrogateescape"))])
            shaken = dataclasses.replace(one.layer, gradients=noisy(one.layer.gradients, 1.0, random))
            stable.append(agreement(*same_grid([clean, rule((shaken,))[0]])))
            size = (one.image.shape[1], one.image.shape[2])
            values.append(self._value(one, normalise(clean, size)))
        return np.array(values), np.array(stable)

    def _value(self, one: Sample, heat: NDArray[np.float32]) -> float:
        if self._measure == "pixel_ap":
            assert one.region is not None
            return float(pixel_precision(heat[None], one.region[None])[0])
        curves = insertion_deletion(self._predict, one.image[None], [one.target], heat[None], steps=_STEPS)
        return float(curves.areas()["insertion_deletion"][0])
