"""``cfcam audit sign``: sign an audit that is finished."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import note

__all__ = ["sign"]


def sign(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a finished audit.")],
    key: Annotated[str, typer.Option("--key", metavar="KEY.pem", help="Your private key.")],
) -> None:
    """Sign an audit's folder as it is now, after somebody has read it, say, or where the key is kept.

    An older signature is replaced. `cfcam audit run --sign` does the same at the end of an audit.
    """
    from ...calibration.audit.signing import sign as sign_folder

    note(f"written: {sign_folder(folder, key)}")
