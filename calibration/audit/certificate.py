"""The dearest rung: under which change of the photo the map's top cells provably stay on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...runtime.errors import CfcamError
from ...runtime.explainer import Explainer

if TYPE_CHECKING:
    from ..certified import CertifiedTopK

__all__ = ["open_certifier", "why_not"]


def open_certifier(explainer: Explainer, method: str, cells: int) -> CertifiedTopK:
    """Certified top-k of a file.

    Args:
        explainer: Of the file; it stays the caller's to close.
        method: Of the maps.
        cells: How many cells of the map have to stay on top.

    Returns:
        What certifies single images.

    Raises:
        CfcamError: The method, the file or its operators have no such bounds, or onnx is not installed.
    """
    if explainer.provider != "cpu":
        raise CfcamError(f"bounds hold for float32 on the CPU, and '{explainer.provider}' runs the model")
    try:
        from ..certified import CertifiedTopK
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "onnx":
            raise
        raise CfcamError("certified top-k needs onnx: install cfcam[onnx]") from error
    return CertifiedTopK(explainer, method, k=cells)


def why_not(explainer: Explainer, method: str, cells: int) -> str | None:
    """Why there is no certified top-k of a file; None where there is.

    Args:
        explainer: As in `open_certifier`.
        method: As in `open_certifier`.
        cells: As in `open_certifier`.

    Returns:
        The reason, as a sentence.
    """
    try:
        open_certifier(explainer, method, cells)
    except CfcamError as error:
        return str(error)
    return None
