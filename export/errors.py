"""Errors of the exporter, in the same family as the runtime's."""

from __future__ import annotations

from ..runtime.errors import CfcamError

__all__ = ["ExportError", "LayerError", "ProofError", "UnsupportedOperatorError"]


class ExportError(CfcamError):
    """A model cannot be exported; the message says why and what to do."""


class LayerError(ExportError):
    """The target layer does not exist, or does not reach the score."""


class UnsupportedOperatorError(ExportError):
    """An operator on the path from the layer to the score has no derivative rule.

    value: what the node makes, where the error belongs to one.
    """

    def __init__(self, message: str, value: str | None = None) -> None:
        super().__init__(message)
        self.value = value


class ProofError(ExportError):
    """The exported file failed its own proof and was not written."""
