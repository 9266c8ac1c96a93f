"""``cfcam audit keygen``."""

import json
import stat

import pytest
from cfcam.cli import main

pytest.importorskip("cryptography")


def test_keygen(tmp_path, capsys):
    key = tmp_path / "audit.pem"
    assert main(["audit", "keygen", str(key)]) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    output = capsys.readouterr()
    assert "audit.pub.pem" in output.out
    assert "key id" in output.err
    assert main(["audit", "keygen", str(key)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["audit", "keygen", str(tmp_path / "b.pem"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cfcam.audit-keygen/1"
    assert document["public"] == str(tmp_path / "b.pub.pem")
    assert len(document["key_id"]) == 64


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["audit", "keygen", str(tmp_path / "file" / "k.pem")]) == 2
    err = capsys.readouterr().err
    assert "cannot be written" in err
    assert len(err.splitlines()) == 1
