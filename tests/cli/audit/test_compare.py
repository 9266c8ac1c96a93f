"""``cfcam audit compare``."""

import json

import numpy as np
import pytest
from audit_folders import audit_folder
from cfcam.cli import main

pytest.importorskip("pyarrow")


@pytest.fixture
def areas():
    return np.random.default_rng(0).normal(0.3, 0.05, 60).tolist()


def test_two_audits(areas, tmp_path, capsys):
    a = audit_folder(tmp_path / "a", {n: {"area": area} for n, area in enumerate(areas)})
    changes = {"method": "gradcam", "against_sha256": "1" * 64, "against_photos": 9}  # the latter change no row
    b = audit_folder(tmp_path / "b", {n: {"area": area + 0.05} for n, area in enumerate(areas)}, **changes)
    assert main(["audit", "compare", str(a), str(a), "--fail-on-drift"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("nothing drifted\n")
    assert "not measured alike" not in out
    assert main(["audit", "compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "drifted: area" in out
    assert "60 the same: compared as the same photos" in out
    assert ["method", "cfcam", "gradcam"] in [line.split() for line in out.splitlines()]
    assert main(["audit", "compare", str(a), str(b), "--fail-on-drift", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["drift"]) == ("cfcam.audit-compare/1", ["area"])
    assert document["differences"] == [["method", "cfcam", "gradcam"]]


def test_a_profile_and_an_audit(areas, tmp_path, capsys):
    a = audit_folder(tmp_path / "a", {n: {"area": area} for n, area in enumerate(areas)})
    b = audit_folder(tmp_path / "b", {100 + n: {"area": area + 0.1} for n, area in enumerate(areas)})
    profile = tmp_path / "profile.json"
    assert main(["audit", "profile", str(a), "-o", str(profile)]) == 0
    capsys.readouterr()
    assert main(["audit", "compare", str(profile), str(b), "--fail-on-drift"]) == 1
    out = capsys.readouterr().out
    assert "drifted: area" in out
    assert "different photos" in out
    assert main(["audit", "compare", str(profile), str(a), "--fail-on-drift"]) == 0


def test_not_done(areas, tmp_path, capsys):
    a = audit_folder(tmp_path / "a", {n: {"area": area} for n, area in enumerate(areas)})
    (tmp_path / "empty").mkdir()
    for pair in ((a, tmp_path / "nowhere"), (tmp_path / "nowhere", a), (a, tmp_path / "empty"), (a / "plan.json", a)):
        assert main(["audit", "compare", *map(str, pair)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
