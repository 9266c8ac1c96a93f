"""Runs the runtime over data and says what came of it: what each part of a method does, whether to trust it."""

from .parts import LayerSample, PartsReport, PartsRow, Spread, measure_part, measure_parts
from .sensitivity import class_sensitivity, pearson

__all__ = [
    "LayerSample",
    "PartsReport",
    "PartsRow",
    "Spread",
    "class_sensitivity",
    "measure_part",
    "measure_parts",
    "pearson",
]
