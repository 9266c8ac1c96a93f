"""The page of an audit."""

import re

import pytest

pytest.importorskip("jinja2")

from cfcam.calibration.audit.plan import Plan
from cfcam.calibration.audit.report import MOST_BYTES, pick_cases, render_report
from cfcam.calibration.audit.row import empty_row
from cfcam.calibration.audit.summary import summarise
from cfcam.runtime.contract.modelfile import read_spec
from small_photos import make_photos


@pytest.fixture
def view(tiny_path):
    return read_spec(tiny_path("logits")).input


def audited(path, **more):
    figures = {"label": "cat <b>", "probability": 0.7, "empty": False, "ms": 3.0, "margin": 0.4}
    grid = {"grid": [0] * 5 + [255], "grid_height": 2, "grid_width": 3}
    return empty_row(str(path), path.name) | figures | grid | more


def page_of(rows, view, **more):
    summary = summarise(
        rows, Plan("ab", "gradcam", {}), {"file": "x/m.onnx", "sha256": "ab", "precision": "float32", "provider": "cpu"}
    )
    return render_report(summary | more, *pick_cases(rows), view)


def test_the_photos_of_a_page_are_the_same_in_any_order_and_the_worst_have_most_findings():
    rows = [
        empty_row(f"{n:04}.png", str(n)) | {"findings": ["undecided"] * (n % 7), "error": "bad" if n == 6 else None}
        for n in range(2500)
    ]
    worst, others = pick_cases(rows, seed=1)
    assert (worst, others) == pick_cases(rows[::-1], seed=1)
    assert [row["image"] for row in worst] == [f"{n:04}.png" for n in range(13, 13 + 12 * 7, 7)]
    assert len({row["image"] for row in others}) == 12
    assert others != pick_cases(rows, seed=2)[1]


def test_the_worst_come_first_with_photo_and_overlay_and_names_are_escaped(view, tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    rows = [audited(photos[0]), audited(photos[1], findings=["undecided"], margin=0.0), audited(photos[2])]
    page = page_of(rows, view)
    worst, sample = page.split("<h2>A random sample</h2>")
    assert worst.count("data:image/jpeg;base64,") == 2
    assert "photo001.png" in worst
    assert sample.count("data:image/jpeg;base64,") == 6
    assert "cat &lt;b&gt;" in page
    assert "<b>undecided</b>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is loaded


def test_limits_that_are_missed_and_photos_with_errors_are_said_first(view, tmp_path):
    rows = [audited(make_photos(tmp_path / "photos", 1)[0]), empty_row("bad <i>.png", "") | {"error": "cannot be read"}]
    limits = [{"name": "p99_ms", "value": 9.0, "limit": 5.0, "met": False}]
    page = page_of(rows, view, limits=limits)
    assert "1 of 1 limits missed; 1 photos could not be audited" in page
    assert "bad &lt;i&gt;.png: cannot be read" in page
    assert "met.</b>" not in page
    assert "The limit is met" in page_of(rows[:1], view, limits=[{**limits[0], "met": True}])


def test_photos_that_are_gone_keep_their_line_and_no_page_is_too_large(view, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 12)
    rows = [audited(photo, findings=["undecided"]) for photo in photos]
    photos[0].unlink()
    page = page_of(rows, view)
    assert "photo000.png" in page
    assert len(page) < MOST_BYTES
    monkeypatch.setattr("cfcam.calibration.audit.report._TEXT_BYTES", MOST_BYTES - 20_000)
    less = page_of(rows, view)
    assert 0 < less.count("data:image/jpeg") < page.count("data:image/jpeg")


@pytest.mark.parametrize(
    ("met", "allowed", "said"),
    [
        (False, None, "No limits were given"),
        (True, "undecided", "The limit is met"),
        (False, "passed", "1 of 1 limits missed"),
    ],
)
def test_a_verdict_counts_as_a_limit_where_limits_speak_of_it(view, tmp_path, met, allowed, said):
    rows = [audited(make_photos(tmp_path / "photos", 1)[0])]
    verdict = {"by": "gate", "verdict": "undecided", "text": "UNDECIDED <x>", "met": met, "allowed": allowed}
    page = page_of(rows, view, against=verdict | {"report": None})
    assert said in page
    assert f'class="{"warn" if met else "bad"}">Explanations: UNDECIDED &lt;x&gt;' in page
