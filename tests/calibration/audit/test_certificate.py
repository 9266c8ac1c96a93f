"""The dearest rung, against certified top-k itself; and where there is none."""

import json

import pytest

pytest.importorskip("pyarrow")

from cfcam.calibration.audit import AuditError, AuditOptions, audit
from cfcam.calibration.audit.certificate import why_not
from cfcam.calibration.audit.parts import read_parts
from cfcam.calibration.audit.plan import RUNGS, USUAL, read_plan
from cfcam.calibration.certified import CertifiedTopK
from cfcam.runtime.explainer import Explainer
from small_photos import make_photos


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 3)


@pytest.mark.parametrize("variant", ["logits", "nhwc"])
def test_rows_have_what_certified_top_k_says_of_the_photos(tiny_path, photos, tmp_path, variant):
    document = audit(tiny_path(variant), photos, tmp_path / "a", AuditOptions(method="gradcam", certified=2))
    assert document["plan"]["rungs"] == list(RUNGS)
    with Explainer(tiny_path(variant), threads=1) as explainer:
        measure, levels = CertifiedTopK(explainer, "gradcam", k=2), []
        for row in read_parts(tmp_path / "a" / "parts"):
            tensor = explainer.prepare(row["image"]).tensor
            tensor = tensor.transpose(2, 0, 1) if variant == "nhwc" else tensor
            levels.append(measure.certify(tensor, row["target"]).grey_levels)
            assert row["certified_grey_levels"] == pytest.approx(levels[-1], rel=0.02)
            assert row["certified_why_not"] is None
    certified = document["certified"]
    assert (certified["cells"], certified["of"], certified["proved"]) == (2, 3, 3)
    assert certified["median_grey_levels"] == pytest.approx(sorted(levels)[1], rel=0.02)
    assert min(levels) > 0
    assert "On 3 of 3 photos it is proved" in (tmp_path / "a" / "report.html").read_text()


def test_a_method_without_bounds_has_no_such_rung_and_the_plan_says_why(tiny_path, photos, tmp_path):
    document = audit(tiny_path("logits"), photos, tmp_path / "a", AuditOptions(method="cfcam", certified=2))
    plan = read_plan(tmp_path / "a" / "plan.json")
    assert plan.rungs == USUAL
    assert plan.certified_why_not is not None
    assert "groups channels by their activations" in plan.certified_why_not
    assert any(plan.certified_why_not in warning for warning in document["warnings"])
    assert {row["certified_grey_levels"] for row in read_parts(tmp_path / "a" / "parts")} == {None}
    with pytest.raises(AuditError, match=r"another plan \(certified_cells"):
        audit(tiny_path("logits"), photos, tmp_path / "a", AuditOptions(method="cfcam"))


def test_why_there_is_none(tiny_path, monkeypatch):
    with Explainer(tiny_path("logits")) as explainer:
        assert why_not(explainer, "gradcam", 2) is None
        assert "expected 1 to" in str(why_not(explainer, "gradcam", 1000))
        monkeypatch.setattr(Explainer, "provider", "cuda")
        assert "'cuda' runs the model" in str(why_not(explainer, "gradcam", 2))


def test_plans_and_rows_of_earlier_audits_are_read(tiny_path, photos, tmp_path, monkeypatch):
    from cfcam.calibration.audit import parts, row

    options = AuditOptions(method="gradcam")
    audit(tiny_path("logits"), photos[:2], tmp_path / "a", options)
    place = tmp_path / "a" / "plan.json"
    plan = json.loads(place.read_text())
    for name in ("certified_cells", "certified_why_not", "against_sha256", "against_photos"):
        del plan[name]
    place.write_text(json.dumps(plan))
    before = read_parts(tmp_path / "a" / "parts")
    for path in (tmp_path / "a" / "parts").iterdir():
        path.unlink()
    with monkeypatch.context() as patched:
        earlier = {name: kind for name, kind in row.COLUMNS.items() if not name.startswith("certified")}
        patched.setattr(row, "COLUMNS", earlier)
        patched.setattr(row, "SCHEMA", "cfcam.audit-rows/1")
        parts.write_part(tmp_path / "a" / "parts", before)
    assert read_parts(tmp_path / "a" / "parts") == before
    assert audit(tiny_path("logits"), photos, tmp_path / "a", options)["counts"]["audited"] == 3
