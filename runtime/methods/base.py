"""What methods take and give: the types that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CamResult", "FloatArray", "Form", "Grouping"]

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Grouping:
    """What clustering did with one image's C channels.

    labels: int64 (C,); cluster number, or `DOMINANT`, `NOISE`, `DEAD`.
    adopted: bool (C,); True for channels that DBSCAN called noise, or was not given, and that the method then
    gave to a cluster, or None where the method does no such thing.
    eps: DBSCAN's radius, or None where there were too few live channels to cluster, or it is not kept.
    """

    labels: NDArray[np.int64]
    adopted: NDArray[np.bool_] | None = None
    eps: float | None = None

    #: Channels kept as they are, outside any cluster.
    DOMINANT = -2
    #: Channels that DBSCAN left without a cluster (and that the method did not adopt).
    NOISE = -1
    #: Channels whose activation is zero everywhere.
    DEAD = -3

    def counts(self) -> dict[str, int]:
        """Channels by kind, the number of clusters, and how many clustered channels were adopted."""
        kinds = {"dominant": self.DOMINANT, "noise": self.NOISE, "dead": self.DEAD}
        found = {name: int(np.count_nonzero(self.labels == label)) for name, label in kinds.items()}
        found["clustered"] = int(np.count_nonzero(self.labels >= 0))
        found["clusters"] = len(np.unique(self.labels[self.labels >= 0]))
        found["adopted"] = 0 if self.adopted is None else int(np.count_nonzero(self.adopted))
        return found


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a map was made of, by methods that take more than one layer's activations and gradients.

    Attributes:
        guided: A detail layer sharpened the map.
        contrast: The share of the rivals' gradient that was taken off the class's, 0 to 1.
        unguided: Why a detail layer that the file has was of no use for this image, or None.
    """

    guided: bool = False
    contrast: float = 0.0
    unguided: str | None = None


@dataclass(frozen=True)
class CamResult:
    """A method's answer for one image.

    Attributes:
        map: Float32 (H, W), not negative, not normalised; on the grid of the layer, or of the detail layer where that
            guides it; of a few probes, on another.
        grouping: What clustering did, or None for methods without it.
        empty: Why the map means nothing ("all gradients are zero", ...), or None.
        form: What the map was made of, or None for methods that have but one form.
    """

    map: NDArray[np.float32]
    grouping: Grouping | None = None
    empty: str | None = None
    form: Form | None = None
