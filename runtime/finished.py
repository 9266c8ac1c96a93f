"""The finished map of a fused file, and why it is empty."""

from __future__ import annotations

from .inference import Finished
from .methods import CamResult
from .methods.base import Form
from .methods.layer_fusion import FileForm
from .methods.numerics.scaling import NO_ACTIVATIONS, NO_GRADIENTS, NOWHERE_POSITIVE

__all__ = ["from_file", "why_empty"]

#: Without a map's ingredients these causes look alike.
_NOTHING_SPEAKS = f"{NOWHERE_POSITIVE}, or {NO_GRADIENTS}, or values in the layer are not finite"
_NO_CLUSTER = "no channels form a cluster at the file's settings, so that each counts by itself"


def from_file(finished: Finished, index: int, form: FileForm | None, chosen: int) -> CamResult:
    """The map that a fused file made of an image.

    Args:
        finished: What the file gave.
        index: Of the image.
        form: Of the file's maps.
        chosen: The class that the file explained.

    Returns:
        The map, with the reason where it is empty, or where the detail layer did not guide it.
    """
    empty = why_empty(finished, index, chosen)
    made = None
    if form is not None:
        guided = finished.guided is not None and bool(finished.guided[index])
        useless = form.detail is not None and not guided and not empty
        why = "the detail layer tells the file nothing about this image" if useless else None
        made = Form(guided=guided, contrast=form.contrast, unguided=why)
    return CamResult(finished.maps[index], None, empty, made)


def why_empty(finished: Finished, index: int, chosen: int) -> str | None:
    """Why a map of a fused file means nothing, as far as the file's outputs tell.

    Args:
        finished: What the file gave.
        index: Of the image.
        chosen: The class that the file explained, -1 for one that does not exist.

    Returns:
        The reason, in the words of the host's methods where it is the same; None where the map is not empty.
    """
    if not finished.empty[index]:
        return None
    if chosen < 0:
        return "the model has no such class"
    counts = finished.counts_of(index)
    if counts is None:
        return _NOTHING_SPEAKS
    if counts["clustered"] + counts["noise"] == 0:
        return f"{NO_ACTIVATIONS}, or some are not finite"
    return _NOTHING_SPEAKS if counts["clusters"] else f"{_NOTHING_SPEAKS}; {_NO_CLUSTER}"
