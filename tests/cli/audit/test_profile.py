"""``cfcam audit profile``."""

import json

import pytest
from audit_folders import audit_folder
from cfcam.cli import main
from cfcam.runtime.profile import read_profile

pytest.importorskip("pyarrow")


def test_profile(tmp_path, capsys):
    folder = audit_folder(tmp_path / "audit", {n: {"area": 0.3 + n / 1000, "margin": 0.5} for n in range(61)})
    out = tmp_path / "profile.json"
    assert main(["audit", "profile", str(folder), "-o", str(out)]) == 0
    output = capsys.readouterr()
    assert "area" in output.out
    assert "0.330" in output.out  # the median
    assert "of 61 photos" in output.err
    profile = read_profile(out)
    assert (profile.model_sha256, profile.method, profile.photos) == ("ab" * 32, "cfcam", 61)
    assert main(["audit", "profile", str(folder), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())


@pytest.mark.parametrize(("count", "name"), [(5, "p.json"), (60, "p.yaml"), (0, "p.json")])
def test_not_done(count, name, tmp_path, capsys):
    folder = tmp_path / "audit"
    if count:
        audit_folder(folder, {n: {"area": 0.3} for n in range(count)})
    assert main(["audit", "profile", str(folder), "-o", str(tmp_path / name)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / name).exists()
