"""JPEGs decoded at a part of their size, where a model needs no more: quicker, and not quite the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contract.spec import InputSpec
from .frame import Frame
from .images import upright_size

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["draft"]

#: Pixels of the draft for each that the model's resizing makes, at least: what is halved is still averaged.
_SPARE = 2


def draft(image: Image.Image, spec: InputSpec, longest: int = 512) -> None:
    """Have a JPEG that was opened, and not decoded yet, decoded as small as it may be. Other images stay as they are.

    Args:
        image: From `opened_file`; its size changes.
        spec: The input of the model that it is for: at least twice as many pixels stay as it resizes the photo to.
        longest: Pixels of the longer side that stay, for a picture of it.
    """
    size = upright_size(image)
    need = max(_SPARE * a / b for a, b in zip(Frame.fit(size, spec).resized, size, strict=True))
    need = max(need, longest / max(size))
    if need <= 0.5:
        # Pillow takes the smallest of the sizes that are at least what is asked for.
        image.draft(None, (int(-(-image.width * need // 1)), int(-(-image.height * need // 1))))
