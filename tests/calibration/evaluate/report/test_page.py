"""One HTML file that asks nobody for anything, and pictures to look at."""

import base64
import dataclasses
import io
import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from cfcam.calibration.evaluate import (
    evaluate,
    machine,
    make_plan,
    make_table,
    pick_cases,
    read_boxes,
    render_report,
    save_report,
)
from cfcam.runtime.errors import MissingDependencyError
from cfcam.runtime.explainer import Explainer
from PIL import Image

pytest.importorskip("jinja2")

_EVIL = "<img src=x onerror=alert(1)>&.png"
_VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced; keeps what is asked for, tags and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


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


def test_report(explainer, evaluation, table, tmp_path):
    cases = pick_cases(explainer, evaluation, each=2)
    assert [(case.method, case.kind) for case in cases[:4]] == [("gradcam", "best")] * 2 + [("gradcam", "worst")] * 2
    assert cases[0].value >= cases[1].value >= cases[3].value >= cases[2].value, "the very worst comes first"
    html = render_report(evaluation, table, cases, command="cfcam evaluate '<&>'", about=machine())
    page = Page(html)
    asked = [value for _, name, value in page.attributes if name in ("src", "href", "action", "data")]
    assert asked
    assert all(value.startswith("data:image/jpeg;base64,") for value in asked)
    assert not {"script", "link", "iframe", "object", "b<b"} & set(page.tags)
    assert "url(" not in html
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for value in asked:
        picture = Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2])))
        assert picture.size == (96, 64)
        assert np.asarray(picture).std() > 5
    assert "bad<b>.png" in page.text, "escaped, so that a reader sees it as it is"
    assert "'<&>'" in page.text
    assert page.tags.count("svg") == sum(len(columns) for columns in evaluation.groups.values())
    for column, figure in evaluation.columns.items():
        assert f"{figure.better} is better" in page.text
        assert figure.rewards in page.text
        assert f"{table.cells['layercam'][column].mean:.3f}" in page.text
    for word in (
        "centre (baseline)",
        "onnxruntime",
        "each photo's top class",
        "1 could not be measured",
        "2 cores"[2:],
    ):
        assert word in page.text
    save_report(tmp_path / "new" / "report.html", html)
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == html


def test_few_photos_and_nothing_measured(explainer, coloured, tmp_path):
    plan = make_plan(explainer, methods=["gradcam"], baselines=["none"])
    (tmp_path / "bad.png").write_bytes(b"")
    for photos in (coloured[0][:2], [tmp_path / "bad.png"]):
        found = evaluate(explainer, photos, plan)
        page = Page(render_report(found, make_table(found), pick_cases(explainer, found)))
        assert ("2 photos or mosaics are too few for an interval, at least 10 are needed" in page.text) == bool(
            found.photos
        )


def test_photos_that_are_gone_leave_the_report_without_them(explainer, evaluation, tmp_path):
    away = [dataclasses.replace(one, name=str(tmp_path / "away.png")) for one in evaluation.photos]
    assert pick_cases(explainer, dataclasses.replace(evaluation, photos=tuple(away))) == []


def test_without_jinja(evaluation, table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"cfcam\[report\]"):
        render_report(evaluation, table)
