"""Best and worst photos, and the contact sheet."""

import json
import shutil

import pytest
from cfcam.calibration.evaluate import (
    contact_sheet,
    evaluate,
    make_plan,
    pick_cases,
    read_boxes,
    save_sheet,
)
from cfcam.runtime.errors import ArrayError, OutputError
from cfcam.runtime.explainer import Explainer
from PIL import Image

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


def test_sheet(explainer, evaluation, tmp_path):
    path = tmp_path / "sheet.png"
    save_sheet(path, explainer, evaluation, most=4)
    picture = Image.open(path)
    assert picture.width > 3 * 220
    rows = contact_sheet(explainer, evaluation.photos[:4], evaluation.methods)
    assert picture.height == rows.height
    assert contact_sheet(explainer, evaluation.photos[:2], evaluation.methods).height < rows.height
    with pytest.raises(ArrayError, match="at least one photo"):
        contact_sheet(explainer, [], ["gradcam"])
    with pytest.raises(OutputError):
        save_sheet(tmp_path, explainer, evaluation)


def test_photos_are_judged_by_what_was_measured(explainer, coloured):
    from cfcam.calibration.evaluate.report.pictures import deciding_column

    plan = make_plan(explainer, methods=["gradcam"], measures=["mosaics", "class_sensitivity"], baselines=["none"])
    assert deciding_column(evaluate(explainer, coloured[0][:2], plan)) == "class_sensitivity"
    plan = make_plan(explainer, methods=["gradcam"], measures=["mosaics"], baselines=["none"])
    found = evaluate(explainer, coloured[0][:2], plan)
    assert deciding_column(found) is None
    assert pick_cases(explainer, found) == []
