"""Does the map show what the class's probability hangs on, and does it know the class?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...measures.confidence import mask_images, masking_columns
from ...measures.insertion_deletion import Fill, insertion_deletion
from ...sensitivity import class_sensitivity
from ..rows import Row
from .registry import Column, Context, Sample, TableMeasure, Values

__all__ = ["ADCC", "CLASS_SENSITIVITY", "INSERTION_DELETION", "INSERTION_DELETION_MEAN"]


def _adcc(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
    maps, count = sample.stacked(rows), len(rows)
    masked = mask_images(np.broadcast_to(sample.image, (count, *sample.image.shape)), maps)
    classes = np.full(count, sample.target)
    # One inference for what the masked images are worth and for their maps.
    after = context.engine.arrays(masked, classes).probabilities[:, sample.target]
    again = [row.explain(masked[i : i + 1], classes[i : i + 1])[0] for i, row in enumerate(rows)]
    before = np.full(count, sample.probabilities[sample.target])
    return masking_columns(before, after, maps, np.stack(again))


def _class_sensitivity(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
    if sample.other is None:
        return {}
    x, other = sample.image[None], np.array([sample.other])
    both = np.array([sample.target, sample.other])

    def value(row: Row) -> float:
        if row.without_contrast is None:
            return class_sensitivity(sample.maps[row.name], row.explain(x, other)[0])
        return class_sensitivity(*row.without_contrast(np.concatenate([x, x]), both))

    return {"class_sensitivity": [value(row) for row in rows]}


ADCC = TableMeasure(
    "adcc",
    {
        "average_drop": Column(
            "lower", "How much of the class's probability is lost on the masked image. Gamed by keeping everything."
        ),
        "average_increase": Column(
            "higher", "How often the masked image is better. Gamed where the probability is near 1 already."
        ),
        "coherency": Column(
            "higher", "Maps that find themselves again on the masked image. Gamed by maps that ignore the image."
        ),
        "complexity": Column("lower", "The map's mean: rewards small spots, whatever they show."),
        "adcc": Column(
            "higher",
            "Harmonic mean of coherency, 1 - complexity and 1 - drop. Gamed by a small fixed spot in the middle.",
        ),
    },
    _adcc,
    cheap=True,
    summary="the image masked by its map: Average Drop and Increase, Coherency, Complexity, ADCC",
)
CLASS_SENSITIVITY = TableMeasure(
    "class_sensitivity",
    {
        "class_sensitivity": Column(
            "higher",
            "1 - correlation between the maps of the explained class and of the best other one, both at contrast 0: "
            "contrast raises it by construction. Gamed by noise.",
        )
    },
    _class_sensitivity,
    cheap=True,
    summary="how much the map depends on the class",
)


def _curves(fill: Fill, suffix: str, rewards: tuple[str, str], *, cheap: bool, summary: str) -> TableMeasure:
    """Insertion and deletion over one fill. rewards: of the two, before what both reward."""

    def run(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
        curves = insertion_deletion(
            context.engine.predict,
            sample.image[None],
            np.full(len(rows), sample.target),
            sample.stacked(rows),
            fill=fill,
            steps=min(context.steps, sample.image[0].size),
            batch=context.engine.batch * context.engine.workers,
        )
        return {name + suffix: value for name, value in curves.areas().items()}

    order = (
        "Rewards an order in which few pixels make the class and few unmake it. Gamed by scattered pixels, and by a "
        "fill that the network takes for another class."
    )
    columns = {
        "insertion": Column("higher", f"{rewards[0]} {order}"),
        "deletion": Column("lower", f"{rewards[1]} {order}"),
        "insertion_deletion": Column("higher", f"The first less the second. {order}"),
    }
    return TableMeasure(
        f"insertion_deletion{suffix}",
        {name + suffix: column for name, column in columns.items()},
        run,
        cheap=cheap,
        summary=summary,
    )


INSERTION_DELETION = _curves(
    "blur",
    "",
    ("Area while pixels appear on the blurred image.", "Area while pixels are blurred away."),
    cheap=True,
    summary="insertion and deletion curves over the blurred image",
)
INSERTION_DELETION_MEAN = _curves(
    "mean",
    "_mean",
    ("As insertion, over the image's mean colour.", "As deletion, to the image's mean colour."),
    cheap=False,
    summary="insertion and deletion curves over the mean colour",
)
