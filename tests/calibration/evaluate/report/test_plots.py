"""Where points, intervals and ticks of plots lie."""

import json
import shutil

import numpy as np
import pytest
from cfcam.calibration.evaluate import (
    evaluate,
    make_plan,
    make_table,
    read_boxes,
)
from cfcam.runtime.explainer import Explainer

pytest.importorskip("jinja2")

_EVIL = "<img src=x onerror=alert(1)>&.png"
_VOID = {"meta", "img", "br", "link", "hr"}


@pytest.fixture(scope="module")
def evaluation(tiny_path, coloured, tmp_path_factory):
    tmp_path, photos = tmp_path_factory.mktemp("report"), []
    for number, path in enumerate(coloured[0]):
        photos.append(tmp_path / (_EVIL if number == 0 else path.name))
        shutil.copy(path, photos[-1])
    (tmp_path / "bad<b>.png").write_bytes(b"no image")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"file": name, "boxes": [box]} for name, box in coloured[1].items()]))
    with Explainer(tiny_path("logits"), threads=1) as explainer:
        plan = make_plan(explainer, methods=["gradcam", "layercam"], baselines=["centre", "random"], annotated=True)
        return evaluate(explainer, [*photos, tmp_path / "bad<b>.png"], plan, annotations=read_boxes(boxes))


@pytest.fixture(scope="module")
def table(evaluation):
    return make_table(evaluation)


def test_points_of_plots_lie_at_their_values(evaluation, table):
    from cfcam.calibration.evaluate.report.plots import make_plot

    plot = make_plot(evaluation, table, "adcc")
    assert plot is not None
    means = [table.cells[mark.label]["adcc"].mean for mark in plot.marks]
    slope, start = np.polyfit(means, [mark.x for mark in plot.marks], 1)
    assert slope > 0
    for value, text in plot.ticks:
        assert value == pytest.approx(slope * float(text) + start, abs=1)
        assert plot.left <= value <= plot.right
    for mark, mean in zip(plot.marks, means, strict=True):
        assert mark.x == pytest.approx(slope * mean + start, abs=0.2)
        assert mark.low is not None
        assert mark.high is not None
        assert mark.low <= mark.x <= mark.high
    assert plot.reference == plot.marks[0].x
