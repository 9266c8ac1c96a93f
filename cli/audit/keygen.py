"""``cfcam audit keygen``: the keys that audits are signed and checked with."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import note, print_json, say
from ..options import Json

__all__ = ["SCHEMA", "keygen"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.audit-keygen/1"


def keygen(
    key: Annotated[str, typer.Argument(metavar="KEY.pem", help="Where the private key goes; KEY.pub.pem beside it.")],
    json: Json = False,
) -> None:
    """Make a pair of Ed25519 keys: one to sign audits with, one for everybody to check them.

    Neither file may be there already. The private key can be read by its owner alone (mode 0600); it has no passphrase.
    """
    from ...calibration.audit.signing import make_keys

    public, key_id = make_keys(key)
    if json:
        print_json({"schema": SCHEMA, "private": key, "public": str(public), "key_id": key_id})
        return
    say(f"private key: {key} (keep it secret: who has it can sign)")
    say(f"public key: {public}")
    note(f"key id {key_id}: tell it to whoever checks your audits, by another way than the audit itself")
