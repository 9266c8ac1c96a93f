"""What methods take and give: the types that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CamResult", "FloatArray", "Grouping"]

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Grouping:
    """What clustering did with one image's C channels.

    labels: int64 (C,); cluster number, or `DOMINANT`, `NOISE`, `DEAD`.
    adopted: bool (C,); True for channels that DBSCAN called noise and that the method then
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


@dataclass(frozen=True)
class CamResult:
    """A method's answer for one image.

    Attributes:
        map: Float32 (H, W), not negative, not normalised; on the layer's grid, but for a few probes.
        grouping: What clustering did, or None for methods without it.
        empty: Why the map means nothing ("all gradients are zero", ...), or None.
    """

    map: NDArray[np.float32]
    grouping: Grouping | None = None
    empty: str | None = None
