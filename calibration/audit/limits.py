"""What an audit must keep to: ``limits.yaml``, and the verdict on a summary."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...runtime.errors import CfcamError, MissingDependencyError
from ...runtime.json_reader import read_text

if TYPE_CHECKING:
    from .limits_model import LimitsModel

__all__ = ["Limits", "LimitsError", "limits_schema", "read_limits"]


class LimitsError(CfcamError):
    """Limits that cannot be read, or that say something that no audit can be held to."""


class Limits:
    """Checked limits; `read_limits` makes them.

    Attributes:
        by: ``"upper"``: a share is held to its limit by the upper end of its 95 % interval, so that few photos prove
            little; ``"rate"``: by the share itself.
        against: The worst verdict of the comparison with the float32 file that is allowed; None where nothing is said.
    """

    def __init__(self, model: LimitsModel) -> None:
        self._model = model
        self.by: Literal["rate", "upper"] = model.by
        self.against = model.against

    def to_dict(self) -> dict[str, Any]:
        """The limits that were set, as JSON takes them."""
        return self._model.model_dump(exclude_none=True)

    def judge(self, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Each limit held against an audit.

        Args:
            summary: ``summary.json``. Read of it: ``findings`` (name -> ``rate`` and ``high``), ``slices`` (rows of
                `slices.table`), ``counts`` (``photos``, ``errors``) and ``latency`` (``p99_ms``, ``over_rate``).

        Returns:
            One entry for each limit: ``name``; ``value``, None where nothing was measured; ``limit``; and ``met``. What
            was not measured is not met.
        """
        return [
            {"name": name, "value": value, "limit": limit, "met": value is not None and value <= limit}
            for name, value, limit in self._held(summary)
        ]

    def _held(self, summary: Mapping[str, Any]) -> Iterator[tuple[str, float | None, float]]:
        model = self._model
        end = "high" if self.by == "upper" else "rate"
        findings = summary.get("findings") or {}
        for name, limit in model.findings.items():
            yield f"findings.{name}", (findings.get(name) or {}).get(end), limit
        for column, names in model.slices.items():
            for name, limit in names.items():
                rows = [
                    row for row in summary.get("slices") or () if row["column"] == column and row["finding"] == name
                ]
                if not rows:
                    yield f"slices.{column}.{name}", None, limit
                for row in rows:
                    yield f"slices.{column}={row['value']}.{name}", row.get(end), limit
        latency, counts = summary.get("latency") or {}, summary.get("counts") or {}
        if model.p99_ms is not None:
            yield "p99_ms", latency.get("p99_ms"), model.p99_ms
        if model.over is not None:
            yield "over", latency.get("over_rate"), model.over
        if model.errors is not None:
            photos = counts.get("photos")
            yield "errors", counts["errors"] / photos if photos else None, model.errors


def limits_schema() -> dict[str, Any]:
    """The JSON Schema of ``limits.yaml``, for editors and other tools. Raises `MissingDependencyError`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_model().model_json_schema()}


def read_limits(path: str | os.PathLike[str]) -> Limits:
    """Limits from a file.

    Args:
        path: YAML: ``findings`` (finding: largest share of photos), ``slices`` (column of the metadata: the same for
            each of its values), ``p99_ms``, ``over`` (share of photos over the budget), ``errors`` (share of photos
            that could not be audited), ``against`` (``passed``, ``undecided`` or ``failed``) and ``by``.

    Returns:
        The limits.

    Raises:
        LimitsError: With all that is wrong, and the nearest key for each unknown one.
        MissingDependencyError: pydantic or PyYAML is not installed.
    """
    model = _model()
    from pydantic import ValidationError

    from ..build.problems import problems_in
    from ..build.yaml_reader import parse_yaml

    where = str(Path(path))
    data = parse_yaml(read_text(path, LimitsError), where, LimitsError)
    if not isinstance(data, dict):
        raise LimitsError(f"{where}: expected keys and values such as 'p99_ms: 80'")
    try:
        # As JSON, so that a number in quotes is no number.
        found = model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise LimitsError(f"{where}: {problems_in(error, model)}") from error
    if not found.model_dump(exclude_none=True, exclude_defaults=True, exclude={"by"}):
        raise LimitsError(f"{where}: sets no limit: give at least one, such as 'errors: 0'")
    return Limits(found)


def _model() -> type[LimitsModel]:
    try:
        import yaml  # noqa: F401

        from .limits_model import LimitsModel
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pydantic", "yaml"):
            raise
        raise MissingDependencyError(f"limits need {error.name}: install cfcam[audit]") from error
    return LimitsModel
