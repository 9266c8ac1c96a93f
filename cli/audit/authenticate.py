"""``cfcam audit authenticate``: whether an audit's folder is what was signed."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import DONE, DONE_IN_PART, note, print_json, say
from ..options import Json

__all__ = ["SCHEMA", "authenticate"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.audit-authenticate/1"

#: Problems that are listed for people; JSON has them all.
_MOST = 20


def authenticate(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of an audit.")],
    key: Annotated[str, typer.Option("--key", metavar="KEY.pub.pem", help="Public key of whoever should have signed.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="X.cam.onnx", help="The file that the audit should be of.")
    ] = None,
    json: Json = False,
) -> None:
    """Check that an audit is what the owner of a key has signed, to the last byte.

    Finds a changed byte, a missing and an added file, another signer and, with --model, a report of another model.
    Exit codes: 0 authentic; 1 not; 2 not done.
    """
    from ...calibration.audit.signing import authenticate as check

    found = check(folder, key, model)
    if json:
        print_json(
            {
                "schema": SCHEMA,
                "folder": folder,
                "authentic": found.authentic,
                "problems": list(found.problems),
                "files": found.files,
                "model_sha256": found.model_sha256,
                "signed": found.signed,
                "against": found.against,
                "key_id": found.key_id,
            }
        )
    elif found.authentic:
        say(f"authentic: {found.files} files are as they were signed at {found.signed}")
        say(f"model: SHA-256 {found.model_sha256}" + ("" if model is None else f", which is {model}"))
        if found.against is not None and found.against.get("verdict") is not None:
            say(f"explanations against those of the float32 file: {found.against['verdict']}")
        say(f"key: {found.key_id}")
    else:
        for problem in found.problems[:_MOST]:
            say(problem)
        if len(found.problems) > _MOST:
            note(f"and {len(found.problems) - _MOST} more: --json lists them all")
        say(f"not authentic: {folder}")
    raise typer.Exit(DONE if found.authentic else DONE_IN_PART)
