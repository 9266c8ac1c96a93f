"""The instruments that come with cfcam: `cfcam.calibration.measures`, one photo and all contenders at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..measures.adcc import adcc, coherency, complexity
from ..measures.base import Measure
from ..measures.confidence import average_drop, average_increase, mask_images
from ..measures.insertion_deletion import Fill, insertion_deletion
from ..measures.localisation import Localisation
from ..measures.max_sensitivity import MaxSensitivity
from ..measures.noise import GradientNoise, InputNoise
from ..measures.robustness import Robustness
from ..measures.transformations import Brightness, Jpeg, Shift, Transformed
from ..sensitivity import class_sensitivity
from .instruments import Context, Figure, Instrument, Run, Sample, register_instrument
from .rows import Contender

__all__: list[str] = []

Values = Mapping[str, ArrayLike]


def _adcc(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
    maps, count = sample.stacked(contenders), len(contenders)
    masked = mask_images(np.broadcast_to(sample.image, (count, *sample.image.shape)), maps)
    classes = np.full(count, sample.target)
    # One inference for what the masked images are worth and for their maps.
    after = context.engine.arrays(masked, classes).probabilities[:, sample.target]
    again = [one.explain(masked[i : i + 1], classes[i : i + 1])[0] for i, one in enumerate(contenders)]
    before = np.full(count, sample.probabilities[sample.target])
    drop, coherence, share = average_drop(before, after), coherency(maps, np.stack(again)), complexity(maps)
    return {
        "average_drop": drop,
        "average_increase": average_increase(before, after),
        "coherency": coherence,
        "complexity": share,
        "adcc": adcc(drop, coherence, share),
    }


def _curves(fill: Fill, suffix: str) -> Run:
    def run(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
        found = insertion_deletion(
            context.engine.predict,
            sample.image[None],
            np.full(len(contenders), sample.target),
            sample.stacked(contenders),
            fill=fill,
            steps=min(context.steps, sample.image[0].size),
            batch=context.engine.batch * context.engine.workers,
        )
        insertion, deletion = found.area(found.insertion), found.area(found.deletion)
        values = {"insertion": insertion, "deletion": deletion, "insertion_deletion": insertion - deletion}
        return {name + suffix: row for name, row in values.items()}

    return run


def _class_sensitivity(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
    if sample.other is None:
        return {}
    x, other = sample.image[None], np.array([sample.other])
    rows = [class_sensitivity(sample.maps[one.name], one.explain(x, other)[0]) for one in contenders]
    return {"class_sensitivity": rows}


def _localisation(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
    if sample.region is None:
        return {}
    maps = sample.stacked(contenders)
    return Localisation().update(maps, np.broadcast_to(sample.region, maps.shape))


def _grid(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
    names = {
        "pointing_game": "cell_pointing",
        "energy_inside": "grid_pointing_game",
        "pixel_precision": "cell_precision",
    }
    return {names[column]: row for column, row in _localisation(sample, contenders, context).items()}


def _gradient_noise(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
    found = context.engine.arrays(sample.image[None], np.array([sample.target]))

    def one(contender: Contender) -> float:
        if contender.rule is None:
            return math.nan
        measure = GradientNoise(contender.rule, seed=sample.seed)
        return float(measure.update(found.activations, found.gradients)["gradient_noise"][0])

    return {"gradient_noise": [one(contender) for contender in contenders]}


def _changed(make: type[InputNoise] | type[MaxSensitivity]) -> Run:
    """With one seed for all contenders, they see the same noisy images, and rules share their inferences."""

    def run(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
        measures = [make(one.explain, seed=sample.seed, batch=context.engine.batch) for one in contenders]
        return _each(sample, contenders, measures)

    return run


def _transformed(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
    changes = (Brightness(1.2, context.input), Jpeg(50, context.input), Shift(1, 0), Shift(0, 1))
    return _each(sample, contenders, [Transformed(one.explain, changes) for one in contenders])


def _each(
    sample: Sample, contenders: Sequence[Contender], measures: Sequence[InputNoise | MaxSensitivity | Transformed]
) -> dict[str, list[float]]:
    x, target = sample.image[None], np.array([sample.target])
    rows = [
        measure.update(x, target, sample.maps[one.name][None])
        for one, measure in zip(contenders, measures, strict=True)
    ]
    return _columns(measures[0], rows)


def _robustness(sample: Sample, contenders: Sequence[Contender], context: Context) -> Values:
    def predict(images: NDArray[np.floating]) -> NDArray[np.float32]:
        return context.engine.arrays(images, np.full(len(images), -1)).probabilities

    measures = [Robustness(predict, one.explain, seed=sample.seed, batch=context.engine.batch) for one in contenders]
    return _columns(measures[0], [measure.update(sample.image[None]) for measure in measures])


def _columns(measure: Measure, rows: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, list[float]]:
    return {name: [float(row[name][0]) for row in rows] for name in measure.columns}


_ORDER = "Rewards an order in which few pixels make the class and few unmake it. Gamed by scattered pixels, and by a "
_ORDER += "fill that the network takes for another class."

for _instrument in (
    Instrument(
        "adcc",
        {
            "average_drop": Figure(
                "lower", "How much of the class's probability is lost on the masked image. Gamed by keeping everything."
            ),
            "average_increase": Figure(
                "higher", "How often the masked image is better. Gamed where the probability is near 1 already."
            ),
            "coherency": Figure(
                "higher", "Maps that find themselves again on the masked image. Gamed by maps that ignore the image."
            ),
            "complexity": Figure("lower", "The map's mean: rewards small spots, whatever they show."),
            "adcc": Figure(
                "higher",
                "Harmonic mean of coherency, 1 - complexity and 1 - drop. Gamed by a small fixed spot in the middle.",
            ),
        },
        _adcc,
        cheap=True,
        summary="the image masked by its map: Average Drop and Increase, Coherency, Complexity, ADCC",
    ),
    Instrument(
        "insertion_deletion",
        {
            "insertion": Figure("higher", f"Area while pixels appear on the blurred image. {_ORDER}"),
            "deletion": Figure("lower", f"Area while pixels are blurred away. {_ORDER}"),
            "insertion_deletion": Figure("higher", f"The first less the second. {_ORDER}"),
        },
        _curves("blur", ""),
        cheap=True,
        summary="insertion and deletion curves over the blurred image",
    ),
    Instrument(
        "class_sensitivity",
        {
            "class_sensitivity": Figure(
                "higher",
                "1 - correlation between the maps of the explained class and of the best other one. Gamed by noise.",
            )
        },
        _class_sensitivity,
        cheap=True,
        summary="how much the map depends on the class",
    ),
    Instrument(
        "gradient_noise",
        {
            "gradient_noise": Figure(
                "higher",
                "Rank correlation of the map with that from gradients with as much noise as signal. Gamed by rules "
                "that hardly use gradients.",
            )
        },
        _gradient_noise,
        cheap=True,
        summary="stability under noise in the gradients (rules only)",
    ),
    Instrument(
        "localisation",
        {
            "pointing_game": Figure("higher", "The map's peak lies on the object. Gamed by pointing at the middle."),
            "energy_inside": Figure("higher", "Share of the map on the object. Gamed by any sharpening of the map."),
            "pixel_precision": Figure(
                "higher", "Average precision of the pixels against the object. Gamed by blobs where objects are large."
            ),
        },
        _localisation,
        cheap=True,
        summary="the map against boxes or masks (only where they are given)",
    ),
    Instrument(
        "insertion_deletion_mean",
        {
            "insertion_mean": Figure("higher", f"As insertion, over the image's mean colour. {_ORDER}"),
            "deletion_mean": Figure("lower", f"As deletion, to the image's mean colour. {_ORDER}"),
            "insertion_deletion_mean": Figure("higher", f"The first less the second. {_ORDER}"),
        },
        _curves("mean", "_mean"),
        cheap=False,
        summary="insertion and deletion curves over the mean colour",
    ),
    Instrument(
        "input_noise",
        {
            "input_noise": Figure(
                "higher",
                "Rank correlation of the map with that of the image with noise of a tenth of its deviation. Gamed by "
                "maps that ignore the image.",
            )
        },
        _changed(InputNoise),
        cheap=False,
        summary="stability under noise in the image",
    ),
    Instrument(
        "transformed",
        {
            name: Figure(
                "higher", f"Rank correlation of the map with that {words}. Gamed by maps that ignore the image."
            )
            for name, words in {
                "brightness_1.2": "of the image a fifth brighter",
                "jpeg_50": "of the image after JPEG of quality 50",
                "shift_1_0": "of the image moved one pixel to the right, moved back",
                "shift_0_1": "of the image moved one pixel down, moved back",
            }.items()
        },
        _transformed,
        cheap=False,
        summary="stability under brightness, JPEG and shifts",
    ),
    Instrument(
        "max_sensitivity",
        {
            "max_sensitivity": Figure(
                "lower",
                "Largest relative change of the map under ten small noises. Gamed by maps that ignore the image.",
            )
        },
        _changed(MaxSensitivity),
        cheap=False,
        summary="the largest change that small noise brings about",
    ),
    Instrument(
        "robustness",
        {
            "consistency": Figure(
                "higher", "Order of segments kept while the prediction stays. Gamed by maps that ignore the image."
            ),
            "responsiveness": Figure(
                "higher",
                "Order of segments changed where noise changes the prediction; read it beside consistency. "
                "Gamed by noise.",
            ),
        },
        _robustness,
        cheap=False,
        summary="Sarkar's robustness: stable while the prediction stays, moving when it moves",
    ),
    Instrument(
        "mosaics",
        {
            "grid_pointing_game": Figure(
                "higher",
                "Share of the map in the cell of its class on mosaics of four photos (GridPG). Gamed by sharpening, "
                "and by blur: add the controls.",
            ),
            "cell_pointing": Figure("higher", "The map's peak lies in the cell of its class."),
            "cell_precision": Figure("higher", "Average precision of the pixels against the cell. Gamed by blur."),
        },
        _grid,
        cheap=False,
        summary="four photos in one image: does the map pick the cell of its class?",
        unit="mosaic",
    ),
):
    register_instrument(_instrument)
