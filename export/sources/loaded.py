"""What loading a model gives, whatever its source is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from .preprocessing import Preprocessing

__all__ = ["Loaded"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A module, and what came with it; None is for what its user has to say.

    module: in eval mode. preprocessing, size: how a photo becomes the input, and its (height,
    width). labels: one per class. multi_label: the classes are independent of each other.
    notes: what the user should know, in sentences.
    """

    module: nn.Module
    preprocessing: Preprocessing | None = None
    size: tuple[int, int] | None = None
    labels: tuple[str, ...] | None = None
    multi_label: bool = False
    notes: tuple[str, ...] = ()
