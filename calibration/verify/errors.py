"""What can be wrong with the question that is put to the gate."""

from __future__ import annotations

from ...runtime.errors import CfcamError

__all__ = ["GateError"]


class GateError(CfcamError, ValueError):
    """Two files that cannot be compared, or thresholds that do not exist."""
