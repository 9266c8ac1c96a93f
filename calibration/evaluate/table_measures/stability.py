"""Does the map stay where it is when noise or a small change enters?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...measures.base import Measure
from ...measures.noise import InputNoise, MaxSensitivity, gradient_noise
from ...measures.robustness import Robustness
from ...measures.transformations import Brightness, Jpeg, Shift, Transformed
from ..rows import Row
from .registry import Column, Context, Run, Sample, TableMeasure, Values

__all__ = ["GRADIENT_NOISE", "INPUT_NOISE", "MAX_SENSITIVITY", "ROBUSTNESS", "TRANSFORMED"]

_ImageMeasure = InputNoise | MaxSensitivity | Transformed


def _gradient_noise(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
    arrays = context.engine.arrays(sample.image[None], np.array([sample.target]))

    def value(row: Row) -> float:
        if row.rule is None:
            return math.nan
        return float(gradient_noise(row.rule, arrays.layers, seed=sample.seed)[0])

    return {"gradient_noise": [value(row) for row in rows]}


def _changed(make: Callable[[Row, Sample, Context], _ImageMeasure]) -> Run:
    """How far the map of a changed image agrees. make: the measure of one row."""

    def run(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
        x, target = sample.image[None], np.array([sample.target])
        measures = [make(row, sample, context) for row in rows]
        results = [
            measure.update(x, target, sample.maps[row.name][None]) for row, measure in zip(rows, measures, strict=True)
        ]
        return _columns(measures[0], results)

    return run


def _under_noise(kind: type[InputNoise] | type[MaxSensitivity]) -> Run:
    """With one seed for all rows, they see the same noisy images, and rules share their inferences."""
    return _changed(lambda row, sample, context: kind(row.explain, seed=sample.seed, batch=context.engine.batch))


def _transformed(row: Row, sample: Sample, context: Context) -> Transformed:
    changes = (Brightness(1.2, context.input), Jpeg(50, context.input), Shift(1, 0), Shift(0, 1))
    return Transformed(row.explain, changes)


def _robustness(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
    def predict(images: NDArray[np.floating]) -> NDArray[np.float32]:
        return context.engine.arrays(images, np.full(len(images), -1)).probabilities

    measures = [Robustness(predict, row.explain, seed=sample.seed, batch=context.engine.batch) for row in rows]
    return _columns(measures[0], [measure.update(sample.image[None]) for measure in measures])


def _columns(measure: Measure, results: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, list[float]]:
    return {name: [float(result[name][0]) for result in results] for name in measure.columns}


GRADIENT_NOISE = TableMeasure(
    "gradient_noise",
    {
        "gradient_noise": Column(
            "higher",
            "Rank correlation of the map with that from gradients with as much noise as signal. Gamed by rules "
            "that hardly use gradients.",
        )
    },
    _gradient_noise,
    cheap=True,
    summary="stability under noise in the gradients (rules only)",
)
INPUT_NOISE = TableMeasure(
    "input_noise",
    {
        "input_noise": Column(
            "higher",
            "Rank correlation of the map with that of the image with noise of a tenth of its deviation. Gamed by "
            "maps that ignore the image.",
        )
    },
    _under_noise(InputNoise),
    cheap=False,
    summary="stability under noise in the image",
)
TRANSFORMED = TableMeasure(
    "transformed",
    {
        name: Column("higher", f"Rank correlation of the map with that {words}. Gamed by maps that ignore the image.")
        for name, words in {
            "brightness_1.2": "of the image a fifth brighter",
            "jpeg_50": "of the image after JPEG of quality 50",
            "shift_1_0": "of the image moved one pixel to the right, moved back",
            "shift_0_1": "of the image moved one pixel down, moved back",
        }.items()
    },
    _changed(_transformed),
    cheap=False,
    summary="stability under brightness, JPEG and shifts",
)
MAX_SENSITIVITY = TableMeasure(
    "max_sensitivity",
    {
        "max_sensitivity": Column(
            "lower", "Largest relative change of the map under ten small noises. Gamed by maps that ignore the image."
        )
    },
    _under_noise(MaxSensitivity),
    cheap=False,
    summary="the largest change that small noise brings about",
)
ROBUSTNESS = TableMeasure(
    "robustness",
    {
        "consistency": Column(
            "higher", "Order of segments kept while the prediction stays. Gamed by maps that ignore the image."
        ),
        "responsiveness": Column(
            "higher",
            "Order of segments changed where noise changes the prediction; read it beside consistency. Gamed by noise.",
        ),
    },
    _robustness,
    cheap=False,
    summary="Sarkar's robustness: stable while the prediction stays, moving when it moves",
)
