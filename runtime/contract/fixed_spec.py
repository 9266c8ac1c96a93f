"""`FixedTargetSpec`: what a `CamSpec` says of a file that explains one class alone."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SpecError

__all__ = ["FixedTargetSpec"]


@dataclass(frozen=True, kw_only=True)
class FixedTargetSpec:
    """The class is part of the graph, which has no class input.

    Such files are made for hosts that feed an image and nothing else, some of which know no other integers than int32,
    and no tensors with one number per image: outputs that the exporter adds and that are int64 or bool in other files
    are int32, and (N, 1) where they are (N,) in others.

    index: of the class; -1 for the top class of each image.
    """

    index: int = -1

    def validate(self, classes: int) -> None:
        if not -1 <= self.index < classes:
            raise SpecError(
                f"CamSpec fixed_target.index: expected -1 for the top class, or 0 to {classes - 1}, got {self.index}"
            )
