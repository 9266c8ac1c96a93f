"""Maps of two classes."""

from __future__ import annotations

import numpy as np
from cfcam.calibration.measures import (
    ClassSensitivity,
    baselines,
)
from cfcam.calibration.sensitivity import class_sensitivity


def test_class_sensitivity(toy, photos, classes):
    others = (classes + 1) % 3
    found = ClassSensitivity(toy.explain, batch=4).update(photos, classes, others)["class_sensitivity"]
    pairs = zip(toy.explain(photos, classes), toy.explain(photos, others), strict=True)
    np.testing.assert_array_equal(found, [class_sensitivity(a, b) for a, b in pairs])
    blind = ClassSensitivity(baselines()["edges"]).update(photos, classes, others)["class_sensitivity"]
    np.testing.assert_allclose(blind, 0, atol=1e-12)
