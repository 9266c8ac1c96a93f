"""Who vouches for an audit's folder, and whether it is still the folder that was signed.

The signature is a DSSE envelope (github.com/secure-systems-lab/dsse) around an in-toto statement
(in-toto.io/Statement/v1) with the SHA-256 of every file in the folder, signed with Ed25519. Nothing here
needs a network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ...runtime.contract.modelfile import file_sha256
from ...runtime.errors import CfcamError, MissingDependencyError, OutputError
from ...runtime.files import is_part_name, write_bytes
from ...runtime.json_reader import parse_json, read_json
from ...runtime.shown import shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "ENVELOPE",
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "Authenticity",
    "SigningError",
    "authenticate",
    "check_key",
    "key_id",
    "make_keys",
    "pae",
    "sign",
]

#: The file of the signature in an audit's folder.
ENVELOPE = "statement.dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
#: What the statement is about; docs/audit-signing.md describes it. It changes with the meaning of the predicate.
PREDICATE_TYPE = "urn:cfcam:audit:v1"

#: Left by every audit, empty, and no part of what it found.
LOCK = ".lock"

#: Bytes of the largest envelope that is read: some hundred thousand parts.
_MOST_BYTES = 128 * 2**20
_MOST_KEY_BYTES = 2**16


class SigningError(CfcamError):
    """A key that cannot be used, or a folder that cannot be signed or checked; the message says what to do."""


@dataclass(frozen=True)
class Authenticity:
    """What was found out about a signed folder.

    Attributes:
        problems: One sentence for each difference; empty where the folder is what was signed.
        files: How many files the statement names; 0 where its signature does not hold.
        model_sha256: Of the file that was audited, as signed; None where the signature does not hold.
        signed: When, by the signer's clock: UTC, ISO 8601; None where the signature does not hold.
        against: As signed, ``by``, ``verdict`` and the float32 file's hash, ``reference``; None without.
        key_id: SHA-256 of the public key that was asked for.
    """

    problems: tuple[str, ...]
    files: int
    model_sha256: str | None
    signed: str | None
    key_id: str
    against: dict[str, Any] | None = None

    @property
    def authentic(self) -> bool:
        """Whether nothing differs from what was signed."""
        return not self.problems


def make_keys(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """A new pair of keys, as PEM: the private one for its owner alone (mode 0600), the public one beside it.

    Args:
        path: Where the private key is written, ``NAME.pem``.

    Returns:
        The path of the public key, ``NAME.pub.pem``, and its `key_id`.

    Raises:
        SigningError: One of the two files is there already: a key that has signed is never overwritten.
        OutputError: A file cannot be written.
    """
    crypto = _crypto()
    private = Path(path)
    public = private.with_name(f"{private.stem}.pub.pem")
    if not private.name:
        raise SigningError(f"{private}: is a folder, a file name such as audit.pem was expected")
    for file in (private, public):
        if os.path.lexists(file):
            raise SigningError(f"{file}: is there already, and what it has signed would be lost: choose another name")
    key = crypto.Ed25519PrivateKey.generate()
    serial = crypto.serialization
    secret = key.private_bytes(serial.Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption())
    shared = key.public_key().public_bytes(serial.Encoding.PEM, serial.PublicFormat.SubjectPublicKeyInfo)
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        # From the first moment on nobody else can read it, and never through a link that somebody put there.
        with open(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
    except (OSError, ValueError) as error:
        raise OutputError(f"{private}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    write_bytes(public, shared)
    return public, key_id(key.public_key())


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of a public key (its SubjectPublicKeyInfo as DER), in hexadecimal."""
    serial = _crypto().serialization
    return hashlib.sha256(key.public_bytes(serial.Encoding.DER, serial.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def check_key(key_path: str | os.PathLike[str]) -> None:
    """Whether `sign` could use a key, before the work that it signs is done.

    Args:
        key_path: The private key, PEM, Ed25519.

    Raises:
        SigningError: It is no such key.
        MissingDependencyError: cryptography is not installed.
    """
    _private_key(Path(key_path))


def sign(folder: str | os.PathLike[str], key_path: str | os.PathLike[str]) -> Path:
    """Sign an audit's folder as it is now; an older signature is replaced.

    Args:
        folder: Of a finished audit: with ``plan.json`` and ``summary.json``.
        key_path: The private key, PEM, Ed25519.

    Returns:
        The path of the envelope in the folder.

    Raises:
        SigningError: The key is no such key, or the folder is no finished audit of one model.
        OutputError: The envelope cannot be written.
    """
    private = _private_key(Path(key_path))
    place = Path(folder)
    model, against = _audited(place)
    files = dict(_hashes(place))
    for name, digest in files.items():
        if is_part_name(Path(name).name):
            raise SigningError(f"{place / name}: was left unfinished by a run that was killed: remove it, then sign")
        if digest is None:
            raise SigningError(f"{place / name}: is not a plain file, which cannot be signed: copy it in or remove it")
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "model": {"sha256": model},
            "against": against,
            "signed": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "tool": f"cfcam {_version()}",
        },
    }
    payload = json.dumps(statement, separators=(",", ":")).encode()
    signature = private.sign(pae(PAYLOAD_TYPE, payload))
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id(private.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    path = place / ENVELOPE
    write_bytes(path, (json.dumps(envelope, indent=1) + "\n").encode())
    return path


def authenticate(
    folder: str | os.PathLike[str], key_path: str | os.PathLike[str], model: str | os.PathLike[str] | None = None
) -> Authenticity:
    """Whether a folder is what the owner of a key has signed, to the last byte.

    Args:
        folder: Of an audit.
        key_path: The signer's public key, PEM, Ed25519.
        model: The file that the audit should be of; None not to ask.

    Returns:
        What differs: a signature by another key, files that were changed, are missing or were added, another model.

    Raises:
        SigningError: The key is no such key, or the folder or the model's file cannot be read.
    """
    public = _public_key(Path(key_path))
    place = Path(folder)
    if not place.is_dir():
        raise SigningError(f"{place}: is no folder: expected the one that `cfcam audit run` wrote (-o)")
    asked = None if model is None else file_sha256(model, SigningError)
    name = key_id(public)
    try:
        statement = _signed_statement(place / ENVELOPE, public)
        subjects, audited, signed, against = _subjects(statement)
    except _NotAuthentic as problem:
        return Authenticity((str(problem),), 0, None, None, name)
    problems = list(_differences(subjects, dict(_hashes(place))))
    if asked is not None and asked != audited:
        problems.append(f"the audit is of another model (SHA-256 {audited}) than {model} (SHA-256 {asked})")
    return Authenticity(tuple(problems), len(subjects), audited, signed, name, against)


class _NotAuthentic(CfcamError):
    """What makes an envelope worth nothing."""


def _signed_statement(path: Path, public: Ed25519PublicKey) -> dict[str, Any]:
    """The statement in an envelope that `public` has signed; not one byte of it is read before that is known."""
    if not os.path.lexists(path):
        raise _NotAuthentic(f"{path}: is missing, so nobody has signed the folder")
    envelope = read_json(path, _NotAuthentic, most=_MOST_BYTES)
    try:
        kind, payload = envelope["payloadType"], _base64(envelope["payload"])
        signatures = [_base64(signature["sig"]) for signature in envelope["signatures"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _NotAuthentic(f"{path}: is no DSSE envelope") from error
    if kind != PAYLOAD_TYPE:
        raise _NotAuthentic(f"{path}: holds {shown(str(kind))}, not an in-toto statement ({PAYLOAD_TYPE})")
    if not any(_holds(public, signature, pae(kind, payload)) for signature in signatures):
        raise _NotAuthentic(f"{path}: was signed by another key, or was changed after the signature")
    statement = parse_json(payload, f"{path}: the statement", _NotAuthentic)
    if not isinstance(statement, dict) or statement.get("predicateType") != PREDICATE_TYPE:
        raise _NotAuthentic(f"{path}: the statement is about something else than an audit ({PREDICATE_TYPE})")
    return statement


def _subjects(statement: dict[str, Any]) -> tuple[dict[str, str], str, str, dict[str, Any] | None]:
    """Hashes by file name, the model's hash, the time and the verdict, of a statement whose signature holds."""
    try:
        subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        predicate = statement["predicate"]
        against = predicate.get("against")  # statements of the first audits lack it
        return subjects, str(predicate["model"]["sha256"]), str(predicate["signed"]), against
    except (AttributeError, KeyError, TypeError) as error:
        raise _NotAuthentic("the statement lacks its files, its model or its time: another version wrote it") from error


def _differences(signed: dict[str, str], present: dict[str, str | None]) -> Iterator[str]:
    """Sentences about what is not as it was signed, in the order of names."""
    for name in sorted(signed.keys() | present.keys()):
        if name not in present:
            yield f"{name}: is missing"
        elif name not in signed:
            yield f"{name}: was added after the signature"
        elif present[name] is None:
            yield f"{name}: is no longer a plain file"
        elif present[name] != signed[name]:
            yield f"{name}: was changed after the signature"


def _hashes(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Names below a folder, with ``/`` between them, and the files' SHA-256; None for what is not a plain file."""

    def fail(error: OSError) -> None:
        raise SigningError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*files, *linked]):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if relative == ENVELOPE or (relative == LOCK and path.lstat().st_size == 0):
                continue
            try:
                relative.encode()
                plain = path.is_file() and not path.is_symlink()
                yield relative, file_sha256(path, SigningError) if plain else None
            except UnicodeEncodeError as error:
                raise SigningError(f"{path}: its name is not UTF-8: rename it") from error


def _audited(folder: Path) -> tuple[str, dict[str, Any] | None]:
    """SHA-256 of the model of a finished audit, on which its files agree; and the verdict against the float32 file."""
    if not folder.is_dir():
        raise SigningError(f"{folder}: is no folder: expected the one that `cfcam audit run` wrote (-o)")
    plan = read_json(folder / "plan.json", SigningError)
    summary = read_json(folder / "summary.json", SigningError, most=_MOST_BYTES)
    try:
        planned, found = plan["model_sha256"], summary["model"]["sha256"]
        against = summary.get("against")
        if against is not None:
            reference = against["reference"] and against["reference"]["sha256"]
            against = {"by": against["by"], "verdict": against["verdict"], "reference": reference}
    except (AttributeError, KeyError, TypeError) as error:
        raise SigningError(f"{folder}: plan.json or summary.json names no model: run the audit again") from error
    if not isinstance(planned, str) or planned != found:
        raise SigningError(
            f"{folder}: plan.json and summary.json are about different models: audit each one into a folder of its own"
        )
    return planned, against


def _base64(text: Any) -> bytes:
    """Standard or URL-safe, as DSSE asks of whoever reads."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (AttributeError, binascii.Error) as error:
        raise ValueError("no base64") from error


def _holds(public: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        public.verify(signature, signed)
    except _crypto().InvalidSignature:
        return False
    return True


def _private_key(path: Path) -> Ed25519PrivateKey:
    crypto, data = _crypto(), _key_bytes(path)
    if b"PRIVATE KEY" not in data and b"PUBLIC KEY" in data:
        raise SigningError(f"{path}: is a public key: signing needs the private one, which `cfcam audit keygen` wrote")
    try:
        key = crypto.serialization.load_pem_private_key(data, None)
    except TypeError as error:  # that is what cryptography raises without the passphrase
        raise SigningError(
            f"{path}: is protected by a passphrase, which is not asked for: `openssl pkey -in {shown(str(path))} -out "
            "plain.pem` writes the key without it"
        ) from error
    except (ValueError, crypto.UnsupportedAlgorithm) as error:
        raise SigningError(f"{path}: is no private key in PEM: make one by `cfcam audit keygen`") from error
    if not isinstance(key, crypto.Ed25519PrivateKey):
        raise SigningError(f"{path}: is a key of another kind than Ed25519: make one by `cfcam audit keygen`")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    crypto, data = _crypto(), _key_bytes(path)
    if b"PRIVATE KEY" in data:
        raise SigningError(f"{path}: is a private key: give the public one, NAME.pub.pem, and keep this one secret")
    try:
        key = crypto.serialization.load_pem_public_key(data)
    except (ValueError, crypto.UnsupportedAlgorithm) as error:
        raise SigningError(f"{path}: is no public key in PEM: give the NAME.pub.pem of `cfcam audit keygen`") from error
    if not isinstance(key, crypto.Ed25519PublicKey):
        raise SigningError(f"{path}: is a key of another kind than Ed25519: give the NAME.pub.pem of the signer")
    return key


def _key_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_KEY_BYTES)
    except (OSError, ValueError) as error:
        raise SigningError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _version() -> str:
    from importlib.metadata import version

    return version("cfcam")


def _crypto() -> Any:
    """What is used of cryptography, by its own names. Raises `MissingDependencyError`."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    except ImportError as error:
        raise MissingDependencyError("signatures need cryptography: install cfcam[audit]") from error
    return SimpleNamespace(
        InvalidSignature=InvalidSignature,
        UnsupportedAlgorithm=UnsupportedAlgorithm,
        serialization=serialization,
        Ed25519PrivateKey=Ed25519PrivateKey,
        Ed25519PublicKey=Ed25519PublicKey,
    )
