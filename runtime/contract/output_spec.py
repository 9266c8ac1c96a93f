"""`OutputSpec`: what a `CamSpec` says of the class scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import SpecError
from .layer_spec import MOST

__all__ = ["OutputSpec"]


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The class scores.

    name: the model output that is shown to people. kind: what that output holds.
    score: the value that was differentiated (the logit, before any final softmax).
    binary: logits that get a sigmoid each. A model with one logit z has two, (-z, z): class 0 is that the thing is
    not there. (In files of schema 1.2 and before it had one, and its only class had index 0.) A multi-label
    model that ends in logits has several.
    regression: values that are no probabilities, and then the same negated: of K values, "class" k is what
    makes value k larger, K + k what makes it smaller. unit: of the values, for people.
    label_offset: how far the model's index is ahead of the usual one (1 where index 0 is
    "background"); `labels`, when present, are in the model's own order; of a regression they end in + and -.
    partial: the output is not the softmax (sigmoid) of the score alone: behind it probabilities were rounded, chosen,
    joined or averaged.
    """

    name: str
    kind: Literal["logits", "softmax", "sigmoid", "binary", "regression"] = "logits"
    score: str
    classes: int
    labels: tuple[str, ...] | None = None
    label_offset: int = 0
    unit: str | None = None
    partial: bool = False

    def validate(self) -> None:
        if self.classes < 1:
            raise SpecError(f"CamSpec output.classes: expected at least 1, got {self.classes}")
        if self.classes > MOST or abs(self.label_offset) > MOST:
            raise SpecError(
                f"CamSpec output: expected classes and label_offset of at most {MOST}, got {self.classes} and "
                f"{self.label_offset}"
            )
        if self.labels is not None and len(self.labels) != self.classes:
            raise SpecError(f"CamSpec output.labels: {len(self.labels)} labels for {self.classes} classes")
        if self.kind == "regression" and self.classes % 2:
            raise SpecError(f"CamSpec output.classes: a regression has two for each value, got {self.classes}")

    @property
    def values(self) -> int:
        """How many values a regression gives; 0 for classes."""
        return self.classes // 2 if self.kind == "regression" else 0

    def label(self, index: int) -> str:
        """The label of class `index` (0-based, the model's own order), or its number.

        Of a regression it says which value, and + (larger) or - (smaller); a single value needs no name.
        """
        if self.labels is not None:
            return self.labels[index]
        if not self.values:
            return str(index)
        return f"{index % self.values if self.values > 1 else ''}{'+' if index < self.values else '-'}"
