"""``cfcam audit authenticate``."""

import hashlib
import json

import pytest
from cfcam.calibration.audit.signing import make_keys, sign
from cfcam.cli import main

pytest.importorskip("cryptography")


@pytest.fixture
def signed(tmp_path):
    """A signed folder, the public key, and the model's file."""
    folder, model = tmp_path / "audit", tmp_path / "m.cam.onnx"
    model.write_bytes(b"a model")
    sha = hashlib.sha256(b"a model").hexdigest()
    (folder / "parts").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"model_sha256": sha}))
    (folder / "summary.json").write_text(json.dumps({"model": {"sha256": sha}}))
    (folder / "report.html").write_text("<p>fine</p>")
    (folder / "parts" / "part-1.parquet").write_bytes(b"rows")
    public, _ = make_keys(tmp_path / "k.pem")
    sign(folder, tmp_path / "k.pem")
    return folder, public, model


def run(signed, capsys, *more):
    folder, public, _ = signed
    code = main(["audit", "authenticate", str(folder), "--key", str(public), *more])
    return code, capsys.readouterr()


def test_authentic(signed, capsys):
    code, output = run(signed, capsys, "--model", str(signed[2]))
    assert code == 0
    assert output.out.startswith("authentic: 4 files are as they were signed at ")
    code, output = run(signed, capsys, "--json")
    document = json.loads(output.out)
    assert (code, document["authentic"], document["problems"]) == (0, True, [])


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("report.html", b"<p>Fine</p>", "report.html: was changed after the signature"),
        ("parts/part-1.parquet", b"Rows", "parts/part-1.parquet: was changed after the signature"),
        ("parts/part-1.parquet", None, "parts/part-1.parquet: is missing"),
        ("parts/part-2.parquet", b"rows", "parts/part-2.parquet: was added after the signature"),
    ],
)
def test_changes(name, data, sentence, signed, capsys):
    path = signed[0] / name
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    code, output = run(signed, capsys)
    assert code == 1
    assert sentence in output.out.splitlines()
    assert output.out.splitlines()[-1].startswith("not authentic: ")
    assert json.loads(run(signed, capsys, "--json")[1].out)["problems"] == [sentence]


def test_another_model(signed, capsys):
    signed[2].write_bytes(b"another model")
    code, output = run(signed, capsys, "--model", str(signed[2]))
    assert code == 1
    assert "the audit is of another model" in output.out


def test_many_problems_are_cut_short(signed, capsys):
    for number in range(30):
        (signed[0] / f"{number}.txt").write_text("")
    code, output = run(signed, capsys)
    assert code == 1
    assert len(output.out.splitlines()) == 21
    assert "and 10 more" in output.err


def test_not_done(signed, tmp_path, capsys):
    folder, public, _ = signed
    for arguments in (
        [str(tmp_path / "nowhere"), "--key", str(public)],
        [str(folder), "--key", str(tmp_path / "k.pem")],
        [str(folder), "--key", str(tmp_path / "nowhere.pem")],
        [str(folder)],
    ):
        assert main(["audit", "authenticate", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
