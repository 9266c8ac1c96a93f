"""A measure of one's own."""

import numpy as np
import pytest
from cfcam.calibration.evaluate import (
    Column,
    TableMeasure,
    evaluate,
    make_plan,
    register_measure,
)
from cfcam.runtime.errors import CfcamError


def test_another_measure(explainer, coloured, monkeypatch):
    from cfcam.calibration.evaluate.table_measures import registry

    monkeypatch.setattr(registry, "_MEASURES", dict(registry._MEASURES))
    peak = TableMeasure(
        "peak",
        {"peak": Column("higher", "A high maximum.")},
        lambda sample, rows, context: {"peak": sample.stacked(rows).max(axis=(1, 2))},
        cheap=False,
        summary="the map's maximum",
    )
    register_measure(peak)
    plan = make_plan(explainer, methods=["gradcam"], measures=["peak"], baselines=["uniform"])
    np.testing.assert_array_equal(evaluate(explainer, coloured[0][:2], plan).values("gradcam", "peak"), 1)
    with pytest.raises(CfcamError, match=r"another one has the columns \['peak'\]"):
        register_measure(TableMeasure("other", peak.columns, peak.run, cheap=False, summary=""))
