"""What methods give."""

from __future__ import annotations

import numpy as np
from cfcam.runtime.methods import Grouping


def test_counts():
    labels = np.array([Grouping.DOMINANT, 0, 0, 3, Grouping.NOISE, Grouping.DEAD, Grouping.DEAD])
    adopted = np.array([False, True, False, False, False, False, False])
    expected = {"dominant": 1, "noise": 1, "dead": 2, "clustered": 3, "clusters": 2, "adopted": 1}
    assert Grouping(labels, adopted).counts() == expected
    assert Grouping(labels).counts() == expected | {"adopted": 0}
