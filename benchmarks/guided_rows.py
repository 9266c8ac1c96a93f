"""The rows of the guided form's table: each is a map from the arrays of one image and class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods import get_method, make_settings
from cfcam.runtime.methods.cfcam.filtering import gaussian
from cfcam.runtime.methods.cfcam.guiding import guide
from cfcam.runtime.methods.cfcam.method import CfcamSettings
from cfcam.runtime.methods.layer_fusion import FUSIONS
from cfcam.runtime.methods.numerics.resizing import resize
from guided_photos import Array, Arrays

__all__ = ["CURVES", "GUIDED", "ROWS", "Row"]

#: The default, and the row that all others are compared with.
GUIDED = "guided"
_DEFAULT = CfcamSettings()


@dataclass(frozen=True)
class Row:
    """A map of arrays and a contrast. contrast: that of the row."""

    run: Callable[[Arrays, float], Array]
    contrast: float = 0.0

    def map(self, arrays: Arrays, *, contrast: float | None = None) -> Array:
        """The map, not normalised; contrast: another than the row's own."""
        return self.run(arrays, self.contrast if contrast is None else contrast)


def _cfcam(**settings: Any) -> Callable[[Arrays, float], Array]:
    method = get_method("cfcam")

    def run(one: Arrays, contrast: float) -> Array:
        values = make_settings(method, {"last": True, **settings, "contrast": contrast})
        return method.run(one.a, one.g, values, detail=one.detail, rivals=one.rivals).map

    return run


def _signed_gradcam(one: Arrays, contrast: float) -> Array:
    weights = (one.g - np.float32(contrast) * one.rivals).mean(axis=(1, 2))
    return np.tensordot(weights, one.a, 1).astype(np.float32)


def _gradcam(one: Arrays, contrast: float) -> Array:
    return np.maximum(_signed_gradcam(one, contrast), 0)


def _blurred(one: Arrays, contrast: float) -> Array:
    return gaussian(_gradcam(one, contrast)[None], 0.7)[0]


def _guided_gradcam(one: Arrays, contrast: float) -> Array:
    signed = gaussian(_signed_gradcam(one, contrast)[None], 0.5)[0]
    if not signed.max() > 0:
        return np.maximum(signed, 0)
    return guide(signed, one.detail, offset=_DEFAULT.gate_offset, floor=_DEFAULT.gate_floor)[0]


def _blind_gate(one: Arrays, contrast: float) -> Array:
    """The guided map with every correlation at 0: a gate that no class can move."""
    coarse = _cfcam(guided=False)(one, contrast)
    norms = np.sqrt(np.einsum("khw,khw->k", one.detail, one.detail))
    live = norms > 0
    gate = np.maximum(np.tensordot(1 / norms[live], one.detail[live], 1), 0)
    floor = _DEFAULT.gate_floor
    return resize(coarse[None], gate.shape)[0] * (floor + (1 - floor) * gate / gate.max())


def _two_layers(first: Callable[[Arrays, float], Array]) -> Callable[[Arrays, float], Array]:
    """Gated by the map of the middle layer, as the runtime fuses two layers."""
    method = get_method("cfcam")
    settings = make_settings(method, {"last": False})

    def run(one: Arrays, contrast: float) -> Array:
        middle = method.run(one.middle_a, one.middle_g, settings).map
        maps = [normalise(map_, middle.shape) for map_ in (first(one, contrast), middle)]
        return FUSIONS["gate"](np.stack(maps))

    return run


_CONTRAST = _DEFAULT.contrast

ROWS = {
    "Grad-CAM": Row(_gradcam),
    "Grad-CAM, blurred": Row(_blurred),
    "Grad-CAM, contrast": Row(_gradcam, _CONTRAST),
    "cfcam, last layer": Row(_cfcam(guided=False)),
    "cfcam, last layer, contrast": Row(_cfcam(guided=False), _CONTRAST),
    "cfcam, two layers": Row(_two_layers(_cfcam(guided=False))),
    GUIDED: Row(_cfcam(), _CONTRAST),
    "guided, L from Grad-CAM": Row(_guided_gradcam, _CONTRAST),
    "guided, contrast 0": Row(_cfcam()),
    "guided, random groups": Row(_cfcam(clustering="random"), _CONTRAST),
    "guided, no groups": Row(_cfcam(shrinkage=0.0, clustering="none"), _CONTRAST),
    "guided, one group": Row(_cfcam(clustering="none"), _CONTRAST),
    "guided, class-blind gate": Row(_blind_gate, _CONTRAST),
    "guided, offset 0, floor .3": Row(_cfcam(gate_offset=0.0, gate_floor=0.3), _CONTRAST),
    "guided, all channels clustered": Row(_cfcam(most_clustered=None), _CONTRAST),
    "guided, 256 clustered": Row(_cfcam(most_clustered=256), _CONTRAST),
    "two layers on the guided base": Row(_two_layers(_cfcam()), _CONTRAST),
}

#: Rows with curves of insertion and deletion, which take 30 inferences each.
CURVES = (
    "Grad-CAM",
    "Grad-CAM, blurred",
    "Grad-CAM, contrast",
    "cfcam, last layer",
    "cfcam, two layers",
    GUIDED,
    "guided, contrast 0",
    "guided, no groups",
    "guided, class-blind gate",
    "guided, offset 0, floor .3",
    "guided, all channels clustered",
    "two layers on the guided base",
)
