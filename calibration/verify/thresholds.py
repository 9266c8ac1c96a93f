"""What a candidate must reach. Why these numbers: docs/verify.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...runtime.checks import check_number, did_you_mean
from ...runtime.contract.spec import INT8_IN_HALF
from ...runtime.errors import CfcamError

__all__ = ["Role", "Thresholds", "VerifyError"]

#: What a map belongs to: the layer before global pooling, any other layer, or several layers fused.
Role = Literal["last", "middle", "fused"]

_SCORES = ("last_score", "last_iou_score", "middle_score", "middle_iou_score")


class VerifyError(CfcamError, ValueError):
    """Two files that cannot be compared, or thresholds that do not exist."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits for `verify`; None where there is none. The defaults are those of float16.

    last_score, middle_score: least score of Spearman's and of Pearson's correlation, in the layer before the global
        pooling, and in others and the fused map. last_iou_score, middle_iou_score: the same of the IoU.
    top1: least share of photos with the reference's top class.
    moved_peaks: largest share of photos whose peak moved; where the reference's own peaks move on more of them under
        jitter, that share holds instead. empty_maps: largest share of photos whose map was lost.
    class_sensitivity: least part of the reference's class sensitivity that is kept, in (0, 1]; it may not grow
        beyond the reciprocal of it either, since noise has the highest of all.

    Raises `MethodError` for a value out of range.
    """

    last_score: float | None = 0.97
    last_iou_score: float | None = 0.80
    middle_score: float | None = 0.96
    middle_iou_score: float | None = 0.75
    top1: float | None = 0.98
    moved_peaks: float | None = 0.02
    empty_maps: float | None = 0.0
    class_sensitivity: float | None = 0.9

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None:
                # A score below 0 is further away than another class, and may be all that can be asked for.
                low = -10.0 if name in _SCORES else 0.01 if name == "class_sensitivity" else 0.0
                check_number("thresholds", name, value, low, 1)

    @classmethod
    def for_precision(cls, precision: str) -> Thresholds:
        """The defaults for a `CamSpec.precision`; of one that is not known, those of float16."""
        return cls(**_BY_PRECISION.get("int8" if precision == INT8_IN_HALF else precision, {}))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], precision: str = "float16") -> Thresholds:
        """`values` over the defaults of `precision`. Raises `VerifyError` for an unknown name, `MethodError`."""
        known = [one.name for one in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                hint = did_you_mean(str(name), known)
                raise VerifyError(f"thresholds: there is no '{name}'{hint} Thresholds: {', '.join(known)}")
        return dataclasses.replace(cls.for_precision(precision), **values)

    def score(self, measure: str, role: Role) -> float | None:
        """The least score of `measure` (``spearman``, ``pearson``, ``iou``) in a layer of this role."""
        if measure == "iou":
            return self.last_iou_score if role == "last" else self.middle_iou_score
        return self.last_score if role == "last" else self.middle_score


#: Where float16's do not fit. With small differences a correlation falls with their square and an IoU with themselves:
#: the IoU scores are about 1 - sqrt(1 - score).
_BY_PRECISION: dict[str, dict[str, float]] = {
    "float32": {
        "last_score": 0.999,
        "last_iou_score": 0.96,
        "middle_score": 0.999,
        "middle_iou_score": 0.96,
        "top1": 0.99,
        "moved_peaks": 0.01,
        "class_sensitivity": 0.95,
    },
    "int8": {
        "last_score": 0.93,
        "last_iou_score": 0.65,
        "middle_score": 0.70,
        "middle_iou_score": 0.45,
        "top1": 0.90,
        "moved_peaks": 0.10,
        "class_sensitivity": 0.8,
    },
}
