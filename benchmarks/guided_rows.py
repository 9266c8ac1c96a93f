"""The rows of the guided form's table: each is a map from the arrays of one image and class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods import get_method, make_settings
from cfcam.runtime.methods.cfcam.filtering import gaussian
from cfcam.runtime.methods.cfcam.guiding import guide
from cfcam.runtime.methods.cfcam.method import CfcamSettings
from cfcam.runtime.methods.layer_fusion import FUSIONS, fuse_layers
from guided_photos import Array, Arrays

__all__ = ["ALTERNATIVE", "GUIDED", "Row", "confirmation_rows", "development_rows", "named", "peer_rows", "with_curves"]

#: The row that all others are compared with.
GUIDED = "guided"
#: Offset and floor of the gate: as the form was found, in which the open choices are looked at, and the alternative.
FOUND, ALTERNATIVE = (0.3, 0.15), (0.0, 0.3)
_CONTRAST = CfcamSettings().contrast


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
        values = make_settings(method, {"last": True, "contrast": contrast, **settings})
        return method.run(one.a, one.g, values, detail=one.detail, rivals=one.rivals).map

    return run


def _signed_gradcam(one: Arrays, contrast: float) -> Array:
    weights = (one.g - np.float32(contrast) * one.rivals).mean(axis=(1, 2))
    return np.tensordot(weights, one.a, 1).astype(np.float32)


def _gradcam(one: Arrays, contrast: float) -> Array:
    return np.maximum(_signed_gradcam(one, contrast), 0)


def _blurred(one: Arrays, contrast: float) -> Array:
    return gaussian(_gradcam(one, contrast)[None], 0.7)[0]


def _guided_gradcam(offset: float, floor: float) -> Callable[[Arrays, float], Array]:
    def run(one: Arrays, contrast: float) -> Array:
        signed = gaussian(_signed_gradcam(one, contrast)[None], 0.5)[0]
        if not signed.max() > 0:
            return np.maximum(signed, 0)
        return guide(signed, one.detail, offset=offset, floor=floor)[0]

    return run


def _blind_gate(floor: float) -> Callable[[Arrays, float], Array]:
    """The guided map with every correlation at 0: a gate that no class can move."""

    def run(one: Arrays, contrast: float) -> Array:
        return guide(_cfcam(guided=False)(one, contrast), one.detail, offset=1.0, floor=floor, blind=True)[0]

    return run


def _two_layers(first: Callable[[Arrays, float], Array]) -> Callable[[Arrays, float], Array]:
    """Gated by the map of the middle layer, as the runtime fuses two layers."""
    method = get_method("cfcam")
    settings = make_settings(method, {"last": False})

    def run(one: Arrays, contrast: float) -> Array:
        middle = method.run(one.middle_a, one.middle_g, settings).map
        maps = [normalise(map_, middle.shape) for map_ in (first(one, contrast), middle)]
        return FUSIONS["gate"](np.stack(maps))

    return run


_ALONE = {
    "Grad-CAM": Row(_gradcam),
    "Grad-CAM, blurred": Row(_blurred),
    "Grad-CAM, contrast": Row(_gradcam, _CONTRAST),
    "cfcam, last layer": Row(_cfcam(guided=False)),
    "cfcam, last layer, contrast": Row(_cfcam(guided=False), _CONTRAST),
    "cfcam, two layers": Row(_two_layers(_cfcam(guided=False))),
}


def rows(offset: float, floor: float) -> dict[str, Row]:
    """All rows of the development table; offset, floor: of the gate of those that are guided."""
    gate = {"gate_offset": offset, "gate_floor": floor}
    other_offset, other_floor = ALTERNATIVE if (offset, floor) == FOUND else FOUND
    other = {"gate_offset": other_offset, "gate_floor": other_floor}
    return {
        **_ALONE,
        GUIDED: Row(_cfcam(**gate), _CONTRAST),
        "guided, L from Grad-CAM": Row(_guided_gradcam(offset, floor), _CONTRAST),
        "guided, contrast 0": Row(_cfcam(**gate)),
        "guided, random groups": Row(_cfcam(**gate, clustering="random"), _CONTRAST),
        "guided, no groups": Row(_cfcam(**gate, shrinkage=0.0, clustering="none"), _CONTRAST),
        "guided, one group": Row(_cfcam(**gate, clustering="none"), _CONTRAST),
        "guided, class-blind gate": Row(_blind_gate(floor), _CONTRAST),
        named(other_offset, other_floor): Row(_cfcam(**other), _CONTRAST),
        "guided, all channels clustered": Row(_cfcam(**gate, most_clustered=None), _CONTRAST),
        "guided, 256 clustered": Row(_cfcam(**gate, most_clustered=256), _CONTRAST),
        "two layers on the guided base": Row(_two_layers(_cfcam(**gate)), _CONTRAST),
    }


def named(offset: float, floor: float) -> str:
    """The guided row with another gate than the table's."""
    return f"guided, offset {_short(offset)}, floor {_short(floor)}"


def _short(value: float) -> str:
    return f"{value:g}".removeprefix("0") or "0"


#: Rows without curves of insertion and deletion, which take 30 inferences each.
_NO_CURVES = (
    "cfcam, last layer, contrast",
    "guided, L from Grad-CAM",
    "guided, random groups",
    "guided, one group",
    "guided, 256 clustered",
)
#: Rows that the confirmation leaves out: what they ask is decided before.
_DECIDED = (
    "cfcam, last layer, contrast",
    "guided, random groups",
    "guided, one group",
    "guided, 256 clustered",
)


def development_rows() -> dict[str, Row]:
    """The form as it was found, and its variants."""
    return rows(*FOUND)


def confirmation_rows() -> dict[str, Row]:
    """The frozen choice, which is the default, and what it is compared with."""
    default = CfcamSettings()
    each = rows(default.gate_offset, default.gate_floor)
    return {name: row for name, row in each.items() if name not in _DECIDED}


def peer_rows() -> dict[str, Row]:
    """The newest methods of other packages, beside the form as it was found."""
    offset, floor = FOUND
    return {
        "Grad-CAM": _ALONE["Grad-CAM"],
        GUIDED: Row(_cfcam(gate_offset=offset, gate_floor=floor), _CONTRAST),
        "Finer-CAM, alpha 1": Row(_finer(1.0)),
        "Finer-CAM, alpha .6": Row(_finer(0.6)),
        "RefineCAM": Row(_refine),
    }


def _finer(alpha: float) -> Callable[[Arrays, float], Array]:
    """`finercam` with weights "mean", from the nearest classes' gradients."""

    def run(one: Arrays, contrast: float) -> Array:
        assert one.nearest is not None
        return get_method("gradcam").run(one.a, one.g - np.float32(alpha) * one.nearest, None).map

    return run


def _refine(one: Arrays, contrast: float) -> Array:
    """`refinecam` on both layers."""
    method = get_method("gradcam++")
    layers = ((one.a, one.g), (one.middle_a, one.middle_g))
    results = [method.run(a, g, make_settings(method, None)) for a, g in layers]
    return fuse_layers(results, "refine", ("last", "middle")).map


def with_curves(names: Iterable[str]) -> list[str]:
    """Those of `names` for which insertion and deletion are measured."""
    return [name for name in names if name not in _NO_CURVES]
