"""What an audit refuses."""

from __future__ import annotations

from ...runtime.errors import CfcamError

__all__ = ["AuditError"]


class AuditError(CfcamError):
    """An audit that cannot be done as asked: its photos, plan, budget or folder do not fit."""
