"""A file with a detail layer and rivals: the table measures the maps that users get."""

import numpy as np
import pytest
from cfcam.calibration.evaluate import Evaluator, make_plan
from cfcam.calibration.measures import gradient_noise
from cfcam.calibration.sensitivity import class_sensitivity
from cfcam.runtime.explainer import Explainer


@pytest.fixture
def guided(guided_path):
    with Explainer(guided_path, threads=1) as explainer:
        yield explainer


def test_a_map_is_the_explainers_bit_for_bit(guided, coloured):
    photo = coloured[0][0]
    expected = guided.explain(photo)
    assert (expected.detail, expected.form.contrast, expected.grid) == ("early", 0.3, (16, 16))
    with Evaluator(guided, make_plan(guided, methods=["cfcam", "gradcam"])) as evaluator:
        images, _ = evaluator.engine.load([photo])
        sample, _ = evaluator.sample(images[0], -1, None, name="", seed="")
        assert sample.target == expected.target
        np.testing.assert_array_equal(sample.maps["cfcam"], expected.map)
        np.testing.assert_array_equal(sample.maps["gradcam"], guided.explain(photo, method="gradcam").map)
    alone = guided.explain(photo, settings={"guided": False})
    assert np.abs(alone.map - expected.map).max() > 0.1


def test_class_sensitivity_is_that_without_contrast(guided, coloured):
    """Of the blurred and sharpened controls too."""
    photo = coloured[0][0]
    top = guided.explain(photo)
    other = next(index for index, _, _ in top.top if index != top.target)
    maps = [[guided.explain(photo, c, settings={"contrast": x}).map for c in (top.target, other)] for x in (0, 0.3)]
    plan = make_plan(guided, methods=["cfcam"], baselines=["sharpened"], measures=["class_sensitivity"])
    with Evaluator(guided, plan) as evaluator:
        found = evaluator.update(photo).values[:, 0]
    assert found[0] == pytest.approx(class_sensitivity(*maps[0]), abs=1e-6)
    assert found[1] == pytest.approx(class_sensitivity(*(heat**2 for heat in maps[0])), abs=1e-6)
    assert abs(found[0] - class_sensitivity(*maps[1])) > 1e-3


def test_finercam_is_told_apart_as_gradcam_is(guided, coloured):
    """Its rivals are the other classes of the measure, so that it would win by construction."""
    plan = make_plan(guided, methods=["gradcam", "finercam"], baselines=[], measures=["class_sensitivity"])
    with Evaluator(guided, plan) as evaluator:
        plain, finer = evaluator.update(coloured[0][0]).values[:, 0]
    assert finer == pytest.approx(plain, abs=1e-5)
    photo = coloured[0][0]
    other = guided.explain(photo).top[1][0]
    maps = [guided.explain(photo, target, "finercam").map for target in (None, other)]
    assert class_sensitivity(*maps) > plain + 0.01


def test_the_form_is_named(guided, coloured):
    plan = make_plan(guided, methods=["cfcam", "gradcam"], measures=["class_sensitivity"])
    with Evaluator(guided, plan) as evaluator:
        evaluator.update(coloured[0][0])
        evaluation = evaluator.compute()
    assert evaluation.to_dict()["model"]["forms"] == {"cfcam": {"guided": True, "contrast": 0.3, "detail": "early"}}, (
        "gradcam has but one"
    )
    assert evaluation.forms == ["cfcam: guided by layer 'early', contrast 0.3"]
    older = evaluation.to_dict()
    del older["model"]["forms"]
    assert type(evaluation).from_dict(older).forms == []


def test_noise_in_gradients_leaves_detail_and_rivals_as_they_are(guided, coloured):
    seen = []
    with Evaluator(guided, make_plan(guided, methods=["cfcam"])) as evaluator:
        images, _ = evaluator.engine.load([coloured[0][0]])
        layers = evaluator.engine.arrays(images, np.array([-1])).layers
        rule = evaluator.rows[0].rule
        assert rule is not None
        value = gradient_noise(lambda one: (seen.append(one[0]), rule(one))[1], layers, samples=2)
    assert 0 < value[0] < 1
    assert len(seen) == 3
    for one in seen[1:]:
        assert one.detail is layers[0].detail
        assert one.rivals is layers[0].rivals
        assert (one.gradients != layers[0].gradients).any()
