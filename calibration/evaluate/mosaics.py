"""Mosaics of four photos that the model knows: the right place is known without a box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..measures.mosaics import cell_regions, choose_groups, make_mosaic
from ..statistics import TooFewPhotosError
from .results import Measured

if TYPE_CHECKING:
    from .evaluator import Evaluator

__all__ = ["CONFIDENCE", "measure_mosaics"]

#: Least probability of its top class for a photo to enter a mosaic.
CONFIDENCE = 0.5
# Photos that mosaics are made of, at most: groups are chosen from a table of photos and classes.
_MOST = 2000


def measure_mosaics(evaluator: Evaluator, photos: Sequence[tuple[Path, Measured]]) -> tuple[list[Measured], list[str]]:
    """Values of mosaics of `photos` (measured ones), and remarks.

    A photo shows what the model takes it for, with a probability of at least `CONFIDENCE`, and is in
    one mosaic at most. A mosaic is explained for each of its four classes; its values are their means.
    """
    if evaluator.engine.explainer.spec.output.classes < 4:
        return [], ["mosaics: the model has fewer than four classes"]
    # Of mosaics the class is always the top one, also where another was explained.
    known = [(path, one) for path, one in photos if one.top == one.target][:_MOST]
    tops = sorted({one.top for _, one in known})
    table = np.zeros((len(known), len(tops)))
    for row, (_, one) in enumerate(known):
        table[row, tops.index(one.top)] = one.probability
    classes = np.array([tops.index(one.top) for _, one in known], np.int64)
    try:
        if not known:
            raise TooFewPhotosError("a mosaic needs photos whose top class is the one explained: there are none")
        groups = choose_groups(table, classes, confidence=CONFIDENCE, seed=evaluator.plan.seed)
        return [_measure(evaluator, [known[i] for i in group]) for group in groups], []
    except TooFewPhotosError as error:
        return [], [f"mosaics: {error}"]


def _measure(evaluator: Evaluator, group: Sequence[tuple[Path, Measured]]) -> Measured:
    images, _ = evaluator.engine.load([path for path, _ in group])
    mosaic = make_mosaic(images)
    regions = cell_regions(*mosaic.shape[1:])
    name = "mosaic of " + ", ".join(path.name for path, _ in group)
    rows = []
    try:
        for region, (_, photo) in zip(regions, group, strict=True):
            sample, _ = evaluator.sample(mosaic, photo.target, region, name=name, seed=name)
            rows.append(evaluator.run("mosaic", sample))
    finally:
        evaluator.engine.forget()
    first = group[0][1]
    return Measured(
        name=name,
        unit="mosaic",
        target=first.target,
        top=first.top,
        probability=first.probability,
        values=np.mean(rows, axis=0),
        ms=np.full(len(evaluator.rows), np.nan),
    )
