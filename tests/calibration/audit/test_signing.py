"""Signing an audit's folder, and finding out what was changed since."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import shutil
import stat

import pytest
from cfcam.calibration.audit.signing import (
    ENVELOPE,
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    SigningError,
    authenticate,
    make_keys,
    sign,
)
from cfcam.runtime.files import part_name

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

_MODEL = b"a model"


@pytest.fixture
def keys(tmp_path):
    public, _ = make_keys(tmp_path / "audit.pem")
    return tmp_path / "audit.pem", public


@pytest.fixture
def folder(tmp_path):
    """An audit's folder, in so far as a signature looks at it, and its model."""
    model = tmp_path / "m.cam.onnx"
    model.write_bytes(_MODEL)
    sha = hashlib.sha256(_MODEL).hexdigest()
    place = tmp_path / "audit"
    (place / "parts").mkdir(parents=True)
    (place / "plan.json").write_text(json.dumps({"schema": "cfcam.audit-plan/1", "model_sha256": sha}))
    (place / "summary.json").write_text(json.dumps({"schema": "cfcam.audit/1", "model": {"sha256": sha}}))
    (place / "report.html").write_text("<p>2 photos</p>")
    for n in range(2):
        (place / "parts" / f"part-{n}-abc.parquet").write_bytes(bytes([n]) * 1000)
    return place


def test_keys_are_for_their_owner_and_never_overwritten(tmp_path):
    public, name = make_keys(tmp_path / "new" / "k.pem")
    private = tmp_path / "new" / "k.pem"
    assert public == tmp_path / "new" / "k.pub.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    assert serialization.load_pem_public_key(public.read_bytes()) == key.public_key()
    assert len(bytes.fromhex(name)) == 32
    with pytest.raises(SigningError, match="is there already"):
        make_keys(private)
    private.unlink()
    with pytest.raises(SigningError, match=r"k\.pub\.pem: is there already"):
        make_keys(private)
    os.symlink(tmp_path / "elsewhere", tmp_path / "l.pem")
    with pytest.raises(SigningError, match="is there already"):
        make_keys(tmp_path / "l.pem")
    assert not (tmp_path / "elsewhere").exists()


def test_an_untouched_folder_is_authentic(folder, keys, tmp_path):
    private, public = keys
    assert sign(folder, private) == folder / ENVELOPE
    found = authenticate(folder, public, tmp_path / "m.cam.onnx")
    assert found.authentic
    assert found.files == 5
    assert found.signed is not None
    assert found.signed.endswith("+00:00")
    moved = shutil.copytree(folder, tmp_path / "elsewhere")  # a place is no part of what is signed
    assert authenticate(moved, public).authentic


def test_the_envelope_is_one_for_others(folder, keys):
    """An implementation of DSSE that is not ours takes the envelope, and refuses it with one bit changed."""
    dsse = pytest.importorskip("securesystemslib.dsse")
    from securesystemslib.exceptions import VerificationError

    signing = pytest.importorskip("securesystemslib.signer")

    private, public = keys
    envelope = json.loads(sign(folder, private).read_text())
    keyid = envelope["signatures"][0]["keyid"]
    key = signing.SSlibKey.from_crypto(serialization.load_pem_public_key(public.read_bytes()), keyid)
    theirs = dsse.Envelope.from_dict(copy.deepcopy(envelope))
    assert set(theirs.verify([key], 1)) == {keyid}
    statement = json.loads(theirs.payload)
    assert theirs.payload_type == PAYLOAD_TYPE == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == PREDICATE_TYPE
    assert [one["name"] for one in statement["subject"]] == [
        "plan.json",
        "report.html",
        "summary.json",
        "parts/part-0-abc.parquet",
        "parts/part-1-abc.parquet",
    ]
    theirs.payload = theirs.payload.replace(b"plan.json", b"plam.json")
    with pytest.raises(VerificationError):
        theirs.verify([key], 1)


def test_what_others_sign_is_read(folder, keys):
    """The other way: an envelope that the other implementation signed, in URL-safe base64, is authentic here."""
    dsse = pytest.importorskip("securesystemslib.dsse")
    signing = pytest.importorskip("securesystemslib.signer")

    private, public = keys
    payload = base64.b64decode(json.loads(sign(folder, private).read_text())["payload"])
    secret = serialization.load_pem_private_key(private.read_bytes(), None)
    signer = signing.CryptoSigner(secret, signing.SSlibKey.from_crypto(secret.public_key()))
    envelope = dsse.Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    document = envelope.to_dict()
    document["payload"] = base64.urlsafe_b64encode(payload).decode()
    (folder / ENVELOPE).write_text(json.dumps(document))
    assert authenticate(folder, public).authentic


def _edit_report(folder):
    (folder / "report.html").write_text("<p>3 photos</p>")


def _flip(folder):
    part = folder / "parts" / "part-1-abc.parquet"
    data = bytearray(part.read_bytes())
    data[500] ^= 1
    part.write_bytes(data)


def _add(folder):
    (folder / "parts" / "part-2-abc.parquet").write_bytes(b"x")


def _remove(folder):
    (folder / "parts" / "part-0-abc.parquet").unlink()


def _link(folder):
    """The bytes are the same, but what they will be tomorrow is decided elsewhere."""
    report = folder / "report.html"
    os.rename(report, folder.parent / "report.html")
    os.symlink(folder.parent / "report.html", report)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_edit_report, "report.html: was changed after the signature"),
        (_flip, "parts/part-1-abc.parquet: was changed after the signature"),
        (_add, "parts/part-2-abc.parquet: was added after the signature"),
        (_remove, "parts/part-0-abc.parquet: is missing"),
        (_link, "report.html: is no longer a plain file"),
    ],
)
def test_changes_are_named(change, sentence, folder, keys):
    private, public = keys
    sign(folder, private)
    change(folder)
    assert authenticate(folder, public).problems == (sentence,)


def test_another_model_is_named(folder, keys, tmp_path):
    private, public = keys
    sign(folder, private)
    other = tmp_path / "other.cam.onnx"
    other.write_bytes(b"another model")
    (problem,) = authenticate(folder, public, other).problems
    assert problem.startswith("the audit is of another model (SHA-256 ")
    with pytest.raises(SigningError, match=r"missing\.onnx: cannot be read"):
        authenticate(folder, public, tmp_path / "missing.onnx")
    summary = json.loads((folder / "summary.json").read_text())
    summary["model"]["sha256"] = "0" * 64
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(SigningError, match="different models"):
        sign(folder, private)


def _statement(folder, **changes):
    path = folder / ENVELOPE
    envelope = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(envelope["payload"])) | changes
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path.write_text(json.dumps(envelope))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / ENVELOPE).unlink(), "is missing, so nobody has signed"),
        (lambda folder: (folder / ENVELOPE).write_text("{}"), "is no DSSE envelope"),
        (lambda folder: (folder / ENVELOPE).write_text("[1"), "is not valid JSON"),
        (
            lambda folder: (folder / ENVELOPE).write_text('{"payloadType": "a", "payload": "", "signatures": []}'),
            "not an in-toto statement",
        ),
        (lambda folder: _statement(folder, subject=[]), "was signed by another key, or was changed"),
    ],
)
def test_an_envelope_that_is_worth_nothing(spoil, words, folder, keys):
    private, public = keys
    sign(folder, private)
    spoil(folder)
    found = authenticate(folder, public)
    assert not found.authentic
    assert found.files == 0
    assert words in found.problems[0]


def test_another_owner(folder, keys, tmp_path):
    """Whoever edits a report and signs it anew has another key."""
    private, public = keys
    sign(folder, private)
    make_keys(tmp_path / "forger.pem")
    _edit_report(folder)
    sign(folder, tmp_path / "forger.pem")
    assert "was signed by another key" in authenticate(folder, public).problems[0]


def test_keys_that_do_not_fit(folder, keys, tmp_path):
    private, public = keys
    pem, pkcs8, plain = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    odd = tmp_path / "odd.pem"
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())):
        odd.write_bytes(key.private_bytes(pem, pkcs8, plain))
        with pytest.raises(SigningError, match="of another kind than Ed25519"):
            sign(folder, odd)
        odd.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(SigningError, match="of another kind than Ed25519"):
            authenticate(folder, odd)
    secret = serialization.load_pem_private_key(private.read_bytes(), None)
    odd.write_bytes(secret.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"word")))
    with pytest.raises(SigningError, match="protected by a passphrase"):
        sign(folder, odd)
    with pytest.raises(SigningError, match="is a public key: signing needs the private one"):
        sign(folder, public)
    with pytest.raises(SigningError, match="is a private key: give the public one"):
        authenticate(folder, private)
    odd.write_text("no key")
    with pytest.raises(SigningError, match="is no private key"):
        sign(folder, odd)
    with pytest.raises(SigningError, match="is no public key"):
        authenticate(folder, odd)
    with pytest.raises(SigningError, match="cannot be read"):
        sign(folder, tmp_path / "nowhere.pem")


def test_the_lock_is_no_part_of_the_audit_while_it_is_empty(folder, keys):
    private, public = keys
    (folder / ".lock").touch()
    sign(folder, private)
    (folder / ".lock").unlink()
    assert authenticate(folder, public).authentic
    (folder / ".lock").write_text("something")
    assert authenticate(folder, public).problems == (".lock: was added after the signature",)


def test_folders_that_do_not_fit(folder, keys, tmp_path):
    private, public = keys
    with pytest.raises(SigningError, match="is no folder"):
        authenticate(tmp_path / "nowhere", public)
    with pytest.raises(SigningError, match="is no folder"):
        sign(tmp_path / "nowhere", private)
    os.symlink(tmp_path, folder / "link")
    with pytest.raises(SigningError, match="is not a plain file"):
        sign(folder, private)
    (folder / "link").unlink()
    left = folder / "parts" / part_name("part-2-abc.parquet")
    left.touch()
    with pytest.raises(SigningError, match="left unfinished by a run that was killed"):
        sign(folder, private)
    left.unlink()
    (folder / "summary.json").unlink()
    with pytest.raises(SigningError, match=r"summary\.json: cannot be read"):
        sign(folder, private)
