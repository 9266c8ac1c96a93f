"""The result of proving an exported file: a list of measured figures and their limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ProofError

__all__ = ["Check", "Proof", "image_errors", "of_layer", "relative_error"]

#: Smaller numbers are subnormal in float32, or zero: a sigmoid that is saturated leaves gradients of that size.
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Check:
    """One figure that was measured. It holds when ``value <= limit`` (or ``>=``: `at_least`)."""

    name: str
    value: float
    limit: float
    at_least: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        # NaN compares false either way, so a figure that could not be computed fails.
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Proof:
    """All checks of one file. True when every one holds."""

    checks: list[Check] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def demand(self, output: object, what: str = "exported") -> None:
        """Raise unless everything holds.

        Args:
            output: the file that is then not written.
            what: how it came to be, in a word.

        Raises:
            ProofError: A check failed.
        """
        if not self:
            failed = "; ".join(
                f"{c.name}: {c.value:.3g}, limit {c.limit:.3g}" + (f", {c.note}" if c.note else "")
                for c in self.failures
            )
            raise ProofError(f"{output}: not written, the {what} graph failed its proof ({failed})")

    def rows(self) -> list[tuple[str, float, float, bool]]:
        """(check, value, limit, ok), in the order of measuring."""
        return [(check.name, check.value, check.limit, check.ok) for check in self.checks]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "ok": bool(self),
            "checks": [
                {
                    "check": c.name,
                    "value": c.value,
                    "limit": c.limit,
                    "at_least": c.at_least,
                    "ok": c.ok,
                    "note": c.note,
                }
                for c in self.checks
            ],
        }


def of_layer(name: str, checks: Iterable[Check]) -> list[Check]:
    """The checks with the name of the layer that they are about, for all layers of a file but the first."""
    return [replace(check, name=f"layer '{name}': {check.name}") for check in checks]


def relative_error(value: NDArray[Any], reference: NDArray[Any]) -> float:
    """max|value - reference| / max|reference|; NaN when the reference is zero everywhere."""
    wide = np.asarray(reference, np.float64)
    largest = np.abs(wide).max()
    return float(np.abs(np.asarray(value, np.float64) - wide).max() / largest) if largest > 0 else float("nan")


def image_errors(value: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Relative L2 error of each image: (N, ...) against (N, ...) -> (N,).

    An image whose reference is zero has error 0 when the value is zero too, else infinity; what float32 cannot hold
    counts as zero.
    """
    wide = np.asarray(reference, np.float64).reshape(len(reference), -1)
    difference = np.linalg.norm(np.asarray(value, np.float64).reshape(len(wide), -1) - wide, axis=1)
    size = np.linalg.norm(wide, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(size > _TINY, difference / size, np.where(difference > _TINY, np.inf, 0.0))
    return errors
