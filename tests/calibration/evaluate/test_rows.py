"""Methods and baselines as rows of one table."""

import numpy as np
import pytest
from cfcam.calibration.evaluate import SharedEngine, make_rows
from cfcam.calibration.measures import EngineAccess
from cfcam.runtime.errors import MethodError
from cfcam.runtime.explainer import Explainer


@pytest.mark.parametrize("variant", ["logits", "nhwc"])
def test_contenders_are_what_the_methods_say(tiny_path, coloured, variant):
    with Explainer(tiny_path(variant), threads=1) as explainer:
        engine = SharedEngine(explainer)
        images, _ = engine.load(coloured[0][:2])
        classes = np.array([1, 2])
        for one in make_rows(engine, ["cfcam", "gradcam"], []):
            expected = EngineAccess(explainer, one.name).explain(images, classes)
            np.testing.assert_allclose(one.explain(images, classes), expected, atol=1e-6)
            assert one.rule is not None


def test_baselines(explainer, coloured):
    engine = SharedEngine(explainer)
    images, _ = engine.load(coloured[0][:1])
    rows = {one.name: one for one in make_rows(engine, ["gradcam"], ["random", "class_blind", "sharpened", "blurred"])}
    maps = {name: one.explain(images, np.array([0])) for name, one in rows.items()}
    np.testing.assert_allclose(maps["sharpened"], maps["gradcam"] ** 2, atol=1e-6)
    assert np.abs(np.diff(maps["blurred"])).sum() < np.abs(np.diff(maps["gradcam"])).sum()
    np.testing.assert_array_equal(maps["class_blind"], rows["class_blind"].explain(images, np.array([2])))
    rows["random"].begin(1)
    first = rows["random"].explain(images, np.array([0]))
    assert not np.array_equal(first, rows["random"].explain(images, np.array([0])))
    rows["random"].begin(1)
    np.testing.assert_array_equal(first, rows["random"].explain(images, np.array([0])))
    with pytest.raises(MethodError, match="unknown baseline 'no'"):
        make_rows(engine, ["gradcam"], ["no"])


def test_probes_run_the_model_themselves(explainer, coloured):
    engine = SharedEngine(explainer)
    images, _ = engine.load(coloured[0][:2])
    (one,) = make_rows(engine, ["scorecam"], [])
    assert (one.kind, one.rule, one.shares) == ("method", None, False)
    classes = np.array([0, 1])
    np.testing.assert_allclose(one.explain(images, classes), explainer.maps(images, [0, 1], "scorecam"), atol=1e-6)
