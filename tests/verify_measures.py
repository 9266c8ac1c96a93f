"""Measures of one photo at one place, as `verify` takes them: nearly equal maps, changed where a test wants it."""

from __future__ import annotations

import dataclasses
from typing import Any

from cfcam.calibration.verify.compared_file import Place
from cfcam.calibration.verify.comparing import PlaceMeasures
from cfcam.calibration.verify.likeness import Likeness

LAST = Place("last", "last", (7, 7))


def measures(s: float = 0.99, second: float | None = 0.9, **changes: Any) -> PlaceMeasures:
    """s: of the candidate's map. second: of the second class's, None for a model with one class."""

    def like(value: float) -> Likeness:
        return Likeness(value, value, value, 0.0, 0.0)

    almost_equal = PlaceMeasures(
        candidate=like(s),
        jitter=like(0.999),
        other=None if second is None else like(second),
        noise=like(0.0),
        clusters=1.0,
        clusters_jitter=1.0,
        sensitivity=0.1,
        sensitivity_reference=0.1,
        empty=None,
        empty_reference=None,
    )
    return dataclasses.replace(almost_equal, **changes)
