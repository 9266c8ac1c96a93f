"""The report as JSON."""

from __future__ import annotations

import json

from cfcam.calibration.verify import verify


def test_a_model_of_one_class(tiny_path, photos):
    report = verify(tiny_path("binary"), tiny_path("binary"), photos, pictures=0)
    assert report
    (place,) = report.places
    assert place.typical_scale
    assert place.measures["spearman"].score == 1
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["layers"][0]["class_sensitivity"]["kept"] is None
    assert document["layers"][0]["measures"]["spearman"]["other_class"] is None
    assert any("do not tell two classes apart" in one for one in report.warnings)
