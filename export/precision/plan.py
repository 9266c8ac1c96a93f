"""`Plan`: which precision a graph gets, and where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ExportError

__all__ = ["Calibrator", "Plan"]

Calibrator = Literal["minmax", "entropy", "percentile"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """precision: of the arithmetic. What follows is about ``int8``, but for `float_nodes` and `correct_bias`.

    calibrator: how the range of a value is found from its calibration images: all of it, the one that loses
    the least information (Kullback-Leibler), or `percentile` percent of it.
    symmetric: activations as int8 with zero point 0, and only what layers with weights read, as TensorRT wants them;
    False: as uint8 with a free zero point, one bit finer behind a ReLU, and on all sides of a layer, the fast form
    on x86 CPUs.
    float_first: the first convolution stays float. It has few weights, and its error goes through everything.
    float_nodes: nodes that stay float32 (names in the plain graph).
    correct_bias: put right the mean error that rounded weights make in each channel; for float16 by the direction
    of rounding, where there are images.
    rest: what is not quantised.
    """

    precision: Literal["float32", "float16", "int8"] = "float32"
    calibrator: Calibrator = "minmax"
    percentile: float = 99.99
    symmetric: bool = False
    float_first: bool = True
    float_nodes: tuple[str, ...] = ()
    correct_bias: bool = True
    rest: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("precision", ("float32", "float16", "int8")),
            ("calibrator", get_args(Calibrator)),
            ("rest", ("float32", "float16")),
        ):
            if getattr(self, name) not in allowed:
                raise ExportError(f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if not 50 < self.percentile <= 100:
            raise ExportError(f"percentile: expected a number above 50 and at most 100, got {self.percentile:g}")

    @property
    def quantised(self) -> bool:
        return self.precision == "int8"

    @property
    def half(self) -> bool:
        """Whether anything is float16."""
        return self.precision == "float16" or (self.quantised and self.rest == "float16")
