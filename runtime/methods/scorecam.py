"""Score-CAM: channels weighed by what the model says of the image seen through them.

Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPRW
2020, arXiv 1910.01279.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice, check_flag
from ..probabilities import softmax
from .base import CamResult
from .numerics.resizing import resize, unit_range
from .numerics.scaling import finish, safe_float32, weighted_channels
from .probing import Probing
from .registry import register_probe

__all__ = ["ScoreCamSettings", "scorecam"]

Weights = Literal["softmax", "probability"]

_WHERE = "settings of 'scorecam'"


@dataclass(frozen=True, kw_only=True)
class ScoreCamSettings:
    """Settings of `scorecam`.

    weights: ``softmax`` takes a softmax over the channels of the class's score, as the paper's algorithm
        and most packages do; ``probability`` the class's probability itself, as the
        authors' released code does, where channels that are constant count nothing.
    align_corners: how the masks are enlarged. pytorch-grad-cam aligns the corners; the authors'
        code and torch-cam do not.
    """

    weights: Weights = "softmax"
    align_corners: bool = False

    def __post_init__(self) -> None:
        check_choice(_WHERE, "weights", self.weights, get_args(Weights))
        check_flag(_WHERE, "align_corners", self.align_corners)


@register_probe("scorecam", settings=ScoreCamSettings)
def scorecam(probing: Probing, settings: ScoreCamSettings | None = None) -> CamResult:
    """Score-CAM: ReLU(sum_k w_k A_k), w_k from the class's score on the image masked by channel k.

    With U_k the channel A_k enlarged to the image x, less its minimum and divided by its range::

        s_k = score of x * U_k          w = softmax(s) over the channels

    The paper subtracts the score of a base image, which no softmax can see. One run of the model per
    channel; channels that are constant all mask everything and share one run.
    """
    settings = settings or ScoreCamSettings()
    a, exponent = safe_float32(probing.activations)
    image = probing.image
    live = np.flatnonzero(a.max(axis=(1, 2)) > a.min(axis=(1, 2)))

    def masked(part: slice) -> NDArray[np.float32]:
        chosen = live[part]
        masks = unit_range(resize(a[chosen], (image.shape[1], image.shape[2]), align_corners=settings.align_corners))
        if part.stop > len(live):  # the last one stands for all constant channels
            masks = np.concatenate([masks, np.zeros_like(image[None, 0])])
        return image * masks[:, None]

    run = probing.scores if settings.weights == "softmax" else probing.probabilities
    found = probing.sweep(run, len(live) + 1, masked)
    if np.ptp(found) == 0:
        values = np.zeros(a.shape[1:])
    else:
        scores = np.full(len(a), found[-1] if settings.weights == "softmax" else 0.0)
        scores[live] = found[:-1]
        if settings.weights == "softmax":
            scores = softmax(scores)
        values = weighted_channels(scores, a)
    nothing = "the class's score is the same whatever channel the image is seen through"
    return finish(values, a, None, exponent=exponent, nothing=nothing)
