"""`ColumnsSpec`: what a `CamSpec` says of a file that explains several classes of each image in one inference."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SpecError
from .layer_spec import MOST

__all__ = ["MOST_RANKS", "ColumnsSpec"]

#: A file knows the classes of each image in the order of their scores down to this rank.
MOST_RANKS = 100


@dataclass(frozen=True, kw_only=True)
class ColumnsSpec:
    """The class input has a column for each class of an image that is explained: (N, K) instead of (N,).

    Then the output that says which classes were explained is (N, K), gradients are (N, K, C, H, W) and rivals
    (N, K, C, 1, 1); scores, activations and detail stay as they are, once per image.

    count: K where it is fixed, None where every inference has its own. ranks: -1 in a column asks for the class of the
    highest score, -2 for the second, and so on, down to -ranks.
    """

    count: int | None = None
    ranks: int = 1

    def validate(self, classes: int) -> None:
        if self.count is not None and not 1 <= self.count <= min(classes, MOST):
            raise SpecError(
                f"CamSpec columns.count: expected 1 to {classes}, as many as there are classes, got {self.count}"
            )
        if not 1 <= self.ranks <= classes:
            raise SpecError(f"CamSpec columns.ranks: expected 1 to {classes}, got {self.ranks}")
