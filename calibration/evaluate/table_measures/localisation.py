"""Does the map lie on the object, or in the cell of its class?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...measures.localisation import Localisation
from ..rows import Row
from .registry import Column, Context, Sample, TableMeasure, Values

__all__ = ["LOCALISATION", "MOSAICS"]


def _localisation(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
    if sample.region is None:
        return {}
    maps = sample.stacked(rows)
    return Localisation().update(maps, np.broadcast_to(sample.region, maps.shape))


def _mosaics(sample: Sample, rows: Sequence[Row], context: Context) -> Values:
    names = {
        "pointing_game": "cell_pointing",
        "energy_inside": "grid_pointing_game",
        "pixel_precision": "cell_precision",
    }
    return {names[column]: values for column, values in _localisation(sample, rows, context).items()}


LOCALISATION = TableMeasure(
    "localisation",
    {
        "pointing_game": Column("higher", "The map's peak lies on the object. Gamed by pointing at the middle."),
        "energy_inside": Column("higher", "Share of the map on the object. Gamed by any sharpening of the map."),
        "pixel_precision": Column(
            "higher", "Average precision of the pixels against the object. Gamed by blobs where objects are large."
        ),
    },
    _localisation,
    cheap=True,
    summary="the map against boxes or masks (only where they are given)",
)
MOSAICS = TableMeasure(
    "mosaics",
    {
        "grid_pointing_game": Column(
            "higher",
            "Share of the map in the cell of its class on mosaics of four photos (GridPG). Gamed by sharpening, "
            "and by blur: add the controls.",
        ),
        "cell_pointing": Column("higher", "The map's peak lies in the cell of its class."),
        "cell_precision": Column("higher", "Average precision of the pixels against the cell. Gamed by blur."),
    },
    _mosaics,
    cheap=False,
    summary="four photos in one image: does the map pick the cell of its class?",
    unit="mosaic",
)
