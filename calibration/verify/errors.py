"""What can be wrong with a comparison before it begins."""

from __future__ import annotations

from ...runtime.errors import CfcamError

__all__ = ["VerifyError"]


class VerifyError(CfcamError, ValueError):
    """Two files that cannot be compared, or thresholds that do not exist."""
