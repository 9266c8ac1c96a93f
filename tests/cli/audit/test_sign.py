"""``cfcam audit sign``."""

import json

import pytest
from audit_folders import audit_folder
from cfcam.cli import main

pytest.importorskip("cryptography")
pytest.importorskip("pyarrow")


def test_sign_and_authenticate(tmp_path, capsys):
    folder = audit_folder(tmp_path / "audit", {1: {"area": 0.3}})
    (folder / "summary.json").write_text(json.dumps({"model": {"sha256": "ab" * 32}}))
    key, public = tmp_path / "k.pem", tmp_path / "k.pub.pem"
    assert main(["audit", "keygen", str(key)]) == 0
    assert main(["audit", "sign", str(folder), "--key", str(key)]) == 0
    assert "statement.dsse.json" in capsys.readouterr().err
    assert main(["audit", "authenticate", str(folder), "--key", str(public)]) == 0
    assert main(["audit", "sign", str(folder), "--key", str(key)]) == 0
    assert main(["audit", "authenticate", str(folder), "--key", str(public)]) == 0
    assert main(["audit", "sign", str(folder), "--key", str(public)]) == 2
    assert "is a public key" in capsys.readouterr().err
