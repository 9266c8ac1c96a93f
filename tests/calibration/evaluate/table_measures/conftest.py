"""One photo measured by the table, and what the measures themselves need to say the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cfcam.calibration.evaluate import Annotation, Evaluation, Evaluator, make_plan
from cfcam.calibration.measures import EngineAccess, box_region


@dataclass(frozen=True, eq=False)
class Case:
    """evaluation: with all measures. access: of ``gradcam``. x, classes, maps: the photo as the measures take it.
    other: the second class. region: of the object. seed: of the photo."""

    evaluation: Evaluation
    access: EngineAccess
    x: Any
    classes: Any
    other: Any
    maps: Any
    region: Any
    seed: int

    def same(self, expected: dict[str, Any]) -> None:
        """The table's values are those of the measures alone."""
        assert expected
        for column, values in expected.items():
            ours = self.evaluation.values("gradcam", column)
            np.testing.assert_allclose(ours, values, atol=1e-5, err_msg=column)


@pytest.fixture
def case(explainer, coloured):
    photos, known = coloured
    plan = make_plan(explainer, methods=["cfcam", "gradcam"], measures=["all"], annotated=True)
    photo = photos[4]
    box = known[photo.name]
    access = EngineAccess(explainer, "gradcam")
    x, frames = access.load([photo])
    p = access.predict(x)[0]
    order = np.argsort(-p)
    with Evaluator(explainer, plan) as evaluator:
        measured = evaluator.update(photo, Annotation(boxes=(box,)))
        pixels = hashlib.sha256(x.tobytes()).hexdigest()
        seed = evaluator.sample(x[0], -1, None, name="", seed=pixels)[0].seed
        evaluation = evaluator.compute()
    assert (measured.target, measured.top) == (order[0], order[0])
    assert measured.probability == pytest.approx(p[order[0]], abs=1e-6)
    maps = access.explain(x, order[:1])
    return Case(evaluation, access, x, order[:1], order[1:2], maps, box_region([box], frames[0])[None], seed)
