"""``limits.yaml`` as pydantic checks it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..build.problems import nearest
from .findings import FINDINGS

__all__ = ["LimitsModel"]


def _known_finding(name: str) -> str:
    names = [finding.name for finding in FINDINGS]
    if name not in names:
        raise ValueError(f"unknown finding{nearest(name, names)}: expected one of {', '.join(names)}")
    return name


Share = Annotated[float, Field(strict=True, ge=0, le=1)]
FindingName = Annotated[str, AfterValidator(_known_finding)]


class LimitsModel(BaseModel):
    """Every limit is the largest value that is still allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["upper", "rate"] = Field(
        "rate",
        description="What of a share is held to its limit: the share, or the upper end of its 95 % interval",
    )
    findings: dict[FindingName, Share] = Field(
        default_factory=dict, description="Finding: the largest share of photos that may have it"
    )
    slices: dict[str, dict[FindingName, Share]] = Field(
        default_factory=dict, description="Column of the metadata: the same, for each of its values"
    )
    p99_ms: Annotated[float, Field(strict=True, gt=0)] | None = Field(
        None, description="Milliseconds per photo, 99th percentile"
    )
    over: Share | None = Field(None, description="Largest share of photos over the budget")
    against: Literal["passed", "undecided", "failed"] | None = Field(
        None, description="The worst verdict of the comparison with the float32 file that is allowed"
    )
    errors: Share | None = Field(None, description="Largest share of photos that could not be audited")
