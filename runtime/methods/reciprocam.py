"""Recipro-CAM: what the tail makes of one cell of the layer alone.

Byun and Lee, "Recipro-CAM: Fast Gradient-Free Visual Explanations for Convolutional Neural
Networks", arXiv 2209.14074; "ReciproCAM", CVPRW 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice, check_flag
from .base import CamResult
from .numerics.scaling import finish
from .probing import Probing
from .registry import register_probe

__all__ = ["ReciproCamSettings", "reciprocam"]

Score = Literal["probability", "logit"]

_WHERE = "settings of 'reciprocam'"


@dataclass(frozen=True, kw_only=True)
class ReciproCamSettings:
    """Settings of `reciprocam`.

    gaussian: spread the cell's values over its 3x3 neighbours with the weights (1, 2, 1) x (1, 2, 1) / 16,
        cut at the border, instead of leaving it alone among zeros.
    score: the class's ``probability``, as in the authors' code, or its ``logit``.
    """

    gaussian: bool = False
    score: Score = "probability"

    def __post_init__(self) -> None:
        check_flag(_WHERE, "gaussian", self.gaussian)
        check_choice(_WHERE, "score", self.score, get_args(Score))


@register_probe("reciprocam", settings=ReciproCamSettings, needs_tail=True)
def reciprocam(probing: Probing, settings: ReciproCamSettings | None = None) -> CamResult:
    """Recipro-CAM: the class's probability when the tail sees one cell of the layer, less the smallest of them.

    One run of the tail per cell.
    """
    settings = settings or ReciproCamSettings()
    a = probing.activations
    height, width = a.shape[1:]
    rows, columns = _spread(height, settings.gaussian), _spread(width, settings.gaussian)
    cells = a.reshape(len(a), -1).T  # (hw, C)

    def alone(part: slice) -> NDArray[np.float32]:
        y, x = np.divmod(np.arange(part.start, part.stop), width)
        masks = rows[y][:, :, None] * columns[x][:, None, :]
        return cells[part, :, None, None] * masks[:, None]

    run = probing.tail_probabilities if settings.score == "probability" else probing.tail
    found = probing.sweep(run, height * width, alone).reshape(height, width)
    nothing = f"the class's {settings.score} is the same whichever cell is kept"
    return finish(found - found.min(), a, None, nothing=nothing)


def _spread(size: int, gaussian: bool) -> NDArray[np.float32]:
    """(size, size): row i has what cell i gives to every cell of its line."""
    matrix = np.eye(size, dtype=np.float32)
    if gaussian:
        matrix = matrix / 2 + (np.eye(size, k=1) + np.eye(size, k=-1)) / 4
    return matrix.astype(np.float32)
