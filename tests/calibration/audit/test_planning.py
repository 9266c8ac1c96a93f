"""From what was asked for to a plan."""

import pytest

pytest.importorskip("pyarrow")

from cfcam.calibration.audit import AuditError, AuditOptions, audit
from small_photos import make_photos


@pytest.fixture
def model(tiny_path):
    return tiny_path("logits")


def test_a_budget_that_is_too_small_names_one_that_is_enough(model, tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    with pytest.raises(AuditError, match="give at least --budget-ms"):
        audit(model, photos, tmp_path / "a", AuditOptions(budget_ms=1e-6))
    assert not (tmp_path / "a" / "plan.json").exists()
    document = audit(model, photos, tmp_path / "a", AuditOptions(budget_ms=1e6, clock="wall"))
    assert document["latency"]["over"] == 0


def test_other_versions_than_the_audit_was_begun_with_are_said(model, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 1)
    assert audit(model, photos, tmp_path / "a")["warnings"] == []
    monkeypatch.setattr("cfcam.calibration.audit.planning.versions", lambda backend: {"backend": "another 1"})
    (warning,) = audit(model, photos, tmp_path / "a")["warnings"]
    assert "now another 1" in warning


@pytest.mark.parametrize("change", [{"clock": "wall"}, {"seed": 7}, {"ladder": "adaptive"}, {"provider": "cuda"}])
def test_what_a_plan_holds_is_not_given_beside_it(model, tmp_path, change):
    photos = make_photos(tmp_path / "photos", 1)
    with pytest.raises(AuditError, match=f"leave --{next(iter(change))} out"):
        audit(model, photos, tmp_path / "a", AuditOptions(plan=tmp_path / "plan.json", **change))
